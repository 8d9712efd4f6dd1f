//! Programs run by a shell, to their ends.

use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::{self, AttemptOutcome};

use std::sync::Arc;

use crate::attempt::Stop;
use crate::runner::Host;
use crate::runner::testing::{Ran, assignment, exec_spec, run_alone, run_assignment, run_beside};

async fn shell(script: &str) -> Ran {
    run_alone(exec_spec(&["sh", "-c", script]), |_| {}).await
}

#[tokio::test]
async fn metrics_become_reports_and_everything_else_becomes_log_lines() {
    let ran = shell(
        r#"echo hello; echo '{"metrics": {"loss": 0.5}}'; echo oops >&2
           echo '{"metrics": {"loss": 0.25, "n": 2}, "step": 10, "epoch": 4}'
           echo '{"metrics": {"loss": "x"}}'; echo '{"metrics": 3}'"#,
    )
    .await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{:?}", ran.end);
    assert_eq!(ran.end.step, 10);
    let points: Vec<(u64, u64, usize)> = ran
        .progress()
        .iter()
        .map(|p| (p.step, p.epoch, p.metrics.len()))
        .collect();
    assert_eq!(points, [(1, 1, 1), (10, 4, 2)]);
    assert!(ran.progress().iter().all(|p| p.end_of_epoch));
    let log = ran.log();
    assert!(log.contains("hello") && log.contains("oops"), "{log}");
    // Each kind is told once, with the first of its lines.
    assert_eq!(log.matches("looks like a report").count(), 1, "{log}");
    assert!(log.contains("metrics.loss is \"x\""), "{log}");
}

#[tokio::test]
async fn a_failing_program_s_last_words_are_the_error() {
    let ran = shell("echo first >&2; echo 'no such luck' >&2; echo >&2; exit 3").await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Error);
    assert!(ran.end.error.contains("exit code 3"), "{}", ran.end.error);
    assert!(ran.end.error.ends_with("no such luck"), "{}", ran.end.error);
    let ran = shell("kill -9 $$").await;
    assert!(ran.end.error.contains("signal 9"), "{}", ran.end.error);
}

#[tokio::test]
async fn a_program_sees_the_gpus_of_its_slots() {
    for (slots, expected) in [
        (vec![2], "sees GPU-1"),
        (vec![1, 2], "sees GPU-0,GPU-1"),
        (vec![0], "sees what the worker sees"),
    ] {
        let script = "echo sees ${CUDA_VISIBLE_DEVICES-what the worker sees}";
        let mut given = assignment(&exec_spec(&["sh", "-c", script]));
        given.ranks[0].slots = slots;
        let ran = run_assignment(given, |_| {}).await;
        let told = ran.log().lines().any(|line| line == expected);
        assert!(told, "{expected}: {}", ran.log());
    }
}

#[tokio::test]
async fn a_program_finds_its_place_as_torch_and_others_look_for_it() {
    let ran = shell(
        r#"echo "$RANK|$WORLD_SIZE|$LOCAL_RANK|$LOCAL_WORLD_SIZE|$GROUP_RANK|$MASTER_ADDR|$TORCHELASTIC_RUN_ID|$TORCHELASTIC_RESTART_COUNT|$TORCHELASTIC_MAX_RESTARTS|$TRAINYARD_SEED32|$PYTHONUNBUFFERED|${TF_CONFIG-none}"
           [ "$MASTER_PORT" -ge 20000 ] && echo port"#,
    )
    .await;
    let expected = "0|1|0|1|0|127.0.0.1|job-1-3|0|3|77|1|none";
    assert!(
        ran.log().lines().any(|line| line == expected),
        "{}",
        ran.log()
    );
    assert!(
        ran.log().lines().any(|line| line == "port"),
        "{}",
        ran.log()
    );
    let mut spec = exec_spec(&["sh", "-c", "echo $MASTER_ADDR $RANK $TRAINYARD_RANK"]);
    let given = [("MASTER_ADDR", "mine"), ("RANK", "9")];
    let environment = &mut spec.job.entrypoint.as_mut().unwrap().environment;
    environment.extend(given.map(|(name, value)| (name.to_owned(), value.into())));
    let ran = run_alone(spec, |_| {}).await;
    assert!(
        ran.log().lines().any(|line| line == "mine 9 0"),
        "{}",
        ran.log()
    );
}

#[tokio::test]
async fn whoever_leaves_the_group_ends_with_the_attempt() {
    // It would keep the pipe open for as long as it lived.
    let script = r#"file=$(mktemp); setsid sh -c 'echo left > $0; sleep 1000; :' $file &
                    while [ ! -s $file ]; do sleep 0.02; done; rm $file"#;
    let ran = shell(script).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed);
    assert!(
        ran.log()
            .contains("had left the program's group were killed"),
        "{}",
        ran.log()
    );
}

#[tokio::test]
async fn kinds_of_failures_are_told_apart() {
    let table = [
        ("exit 1", AttemptOutcome::Error, "exit code 1"),
        (
            "echo no layers >&2; exit 78",
            AttemptOutcome::Infeasible,
            "no layers",
        ),
        (
            r#"echo '{"infeasible": "batch over memory"}'; exit 1"#,
            AttemptOutcome::Infeasible,
            "batch over memory",
        ),
        (
            "echo 'CUDA out of memory. Tried' >&2; exit 1",
            AttemptOutcome::OutOfMemory,
            "exit code 1",
        ),
        // Killed, but not by the kernel for memory.
        ("kill -9 $$", AttemptOutcome::Error, "signal 9"),
        ("exit 137", AttemptOutcome::Error, "exit code 137"),
    ];
    for (script, outcome, error) in table {
        let ran = shell(script).await;
        assert_eq!(ran.end.outcome, outcome, "{script}");
        assert!(ran.end.error.contains(error), "{}", ran.end.error);
    }
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let ran = run_alone(exec_spec(&["/no/such/program"]), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Error);
    assert!(
        ran.end.error.contains("/no/such/program"),
        "{}",
        ran.end.error
    );
    let ran = run_alone(exec_spec(&[]), |_| {}).await;
    assert!(
        ran.end.error.contains("entrypoint.command"),
        "{}",
        ran.end.error
    );
}

#[tokio::test]
async fn the_environment_is_as_documented() {
    let ran = shell(
        r#"echo "$TRAINYARD_PARAMS|$TRAINYARD_JOB_ID|$TRAINYARD_TRIAL_ID|$TRAINYARD_ATTEMPT|$TRAINYARD_SEED|$TRAINYARD_RANK|$TRAINYARD_WORLD_SIZE""#,
    )
    .await;
    assert!(
        ran.log().contains(r#"{"lr":0.5}|job-1|3|0|77|0|1"#),
        "{}",
        ran.log()
    );
}

#[tokio::test]
async fn a_program_is_told_how_far_to_train_and_stopped_there() {
    let two = |script: &str| {
        let mut assignment = assignment(&exec_spec(&["sh", "-c", script]));
        assignment.until_epoch = Some(2);
        assignment
    };
    // One that knows: it ends by itself, in whatever way.
    let knows = r#"for i in 1 2 3; do [ $i -gt $TRAINYARD_UNTIL_EPOCH ] && exit 3
                   echo "{\"metrics\": {\"loss\": $i}}"; done"#;
    let ran = run_assignment(two(knows), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Paused, "{:?}", ran.end);
    assert_eq!((ran.end.step, ran.progress().len()), (2, 2));
    // One that does not: it is stopped.
    let goes_on = r#"for i in 1 2 3; do echo '{"metrics": {"loss": 1}}'; done; sleep 1000"#;
    let ran = run_assignment(two(goes_on), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Paused, "{:?}", ran.end);
    assert_eq!(ran.progress().len(), 2, "the third epoch is not told yet");
    assert!(
        ran.log().contains("trains on beyond epoch 2"),
        "{}",
        ran.log()
    );
    assert!(ran.log().contains("SIGTERM"), "{}", ran.log());
    // One that ends before.
    let early = r#"echo '{"metrics": {"loss": 1}}'"#;
    let ran = run_assignment(two(early), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{:?}", ran.end);
}

/// Epoch, step and metrics of a report.
type Told = (u64, u64, Vec<(String, f64)>);

fn points(ran: &Ran) -> Vec<Told> {
    let progress = ran.progress().into_iter();
    let metrics = |p: &v1::Progress| {
        let all = p.metrics.iter();
        all.map(|metric| (metric.name.clone(), metric.value))
            .collect()
    };
    progress.map(|p| (p.epoch, p.step, metrics(p))).collect()
}

fn with_objective(script: &str, metric: &str) -> TrialSpec {
    let mut spec = exec_spec(&["sh", "-c", script]);
    let objective = format!(r#"[{{"metric": "{metric}", "mode": "minimize"}}]"#);
    spec.job.objectives = serde_json::from_str(&objective).unwrap();
    spec
}

#[tokio::test]
async fn a_report_behind_a_progress_bar_or_a_giant_line_counts() {
    let ran = shell(
        r#"printf '\r 10%%|#\r 50%%|#####\r{"metrics": {"loss": 1}}\n'
           printf ' 50%%|##### {"metrics": {"loss": 2}}\n'
           head -c 300000 /dev/zero | tr '\0' x; echo '{"metrics": {"loss": 3}}'
           printf '\033[32m{"metrics": {"loss": 4}}\033[0m\r\n'
           echo '{"metrics": {"loss": NaN}}'"#,
    )
    .await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{:?}", ran.end);
    let values: Vec<f64> = points(&ran).iter().map(|(.., m)| m[0].1).collect();
    assert_eq!(values[..4], [1.0, 2.0, 3.0, 4.0]);
    assert!(values[4].is_nan() && values.len() == 5, "{values:?}");
}

#[tokio::test]
async fn what_is_drawn_over_is_logged_as_a_terminal_shows_it() {
    let ran =
        shell(r#"printf '\r10%%\r20%%\r\033[1mdone\033[0m\nnext\r\n'; printf 'a\rb' >&2; exit 1"#)
            .await;
    let log = ran.log();
    let lines: Vec<&str> = log
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .collect();
    for shown in ["done", "next", "b"] {
        assert!(lines.contains(&shown), "{shown}: {log}");
    }
    let shown = lines.concat();
    assert!(!shown.contains("10%") && !shown.contains("u{"), "{log}");
    assert!(ran.end.error.ends_with("error: b"), "{}", ran.end.error);
}

#[tokio::test]
async fn a_rung_is_reached_by_the_report_that_has_the_objective() {
    // As users of trackers log: first training, then validation.
    let script = r#"for e in 1 2 3; do [ $e -gt $TRAINYARD_UNTIL_EPOCH ] && exit
                    echo "{\"epoch\": $e, \"metrics\": {\"train/loss\": 0}}"
                    echo "{\"epoch\": $e, \"metrics\": {\"val/acc\": $e}}"; done"#;
    let mut given = assignment(&with_objective(script, "val/acc"));
    given.until_epoch = Some(2);
    let ran = run_assignment(given, |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Paused, "{:?}", ran.end);
    let told: Vec<(u64, u64, String)> = points(&ran)
        .into_iter()
        .map(|(epoch, step, mut metrics)| (epoch, step, metrics.remove(0).0))
        .collect();
    let expected = [
        (1, 1, "train/loss"),
        (1, 2, "val/acc"),
        (2, 3, "train/loss"),
        (2, 4, "val/acc"),
    ];
    assert_eq!(told, expected.map(|(e, s, name)| (e, s, name.to_owned())));
    assert!(!ran.log().contains("is not among"), "{}", ran.log());
}

#[tokio::test]
async fn an_objective_that_never_comes_is_told_with_the_near_word() {
    let ran = run_alone(
        with_objective(r#"echo '{"metrics":{"val_loss":1}}'"#, "loss"),
        |_| {},
    )
    .await;
    let log = ran.log();
    assert!(
        log.contains("`loss` is not among") && log.contains("did you mean `val_loss`?"),
        "{log}"
    );
}

#[tokio::test]
async fn who_goes_on_from_a_file_of_its_own_is_counted_on() {
    let script = r#"for e in 6 7; do echo "{\"epoch\": $e, \"metrics\": {\"loss\": 1}}"; done"#;
    let mut given = assignment(&exec_spec(&["sh", "-c", script]));
    (given.attempt, given.reported_epoch, given.reported_step) = (1, 5, 5);
    let ran = run_assignment(given, |_| {}).await;
    let told: Vec<(u64, u64)> = ran.progress().iter().map(|p| (p.epoch, p.step)).collect();
    assert_eq!(told, [(6, 6), (7, 7)]);
}

#[tokio::test]
async fn what_cannot_be_started_is_told_for_what_it_is() {
    let mut spec = exec_spec(&["sh", "-c", "true"]);
    let program = spec.job.entrypoint.as_mut().unwrap();
    program.working_directory = Some("/no/such/folder".into());
    let ran = run_alone(spec, |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Error);
    assert!(
        ran.end.error.contains("working_directory: /no/such/folder"),
        "{}",
        ran.end.error
    );
    let ran = run_alone(exec_spec(&["echo", "a\0b"]), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Infeasible);
    assert!(
        ran.end.error.contains("entrypoint.command[1] holds a NUL"),
        "{}",
        ran.end.error
    );
}

#[tokio::test]
async fn who_ignores_sigterm_has_its_grace_and_no_more() {
    let mut spec = exec_spec(&[
        "sh",
        "-c",
        "trap '' TERM; echo re''ady; while :; do sleep 1; done",
    ]);
    spec.job.entrypoint.as_mut().unwrap().stop_grace = 0.2;
    let ran = run_alone(spec, |run| run.stop_at_log("ready", Stop::Checkpoint)).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Preempted);
    assert!(ran.log().contains("SIGKILL"), "{}", ran.log());
}

#[tokio::test]
async fn a_stop_ends_the_whole_group() {
    // The shell's child would keep the pipe open if it lived on.
    let script = r#"trap 'echo bye; exit 0' TERM; echo ready; sleep 1000 & wait"#;
    for (stop, outcome) in [
        (Stop::Checkpoint, AttemptOutcome::Preempted),
        (Stop::Now, AttemptOutcome::Cancelled),
    ] {
        let ran = run_alone(exec_spec(&["sh", "-c", script]), |run| {
            run.stop_at_log("ready", stop);
        })
        .await;
        assert_eq!(ran.end.outcome, outcome);
        assert!(ran.log().contains("bye"), "{}", ran.log());
    }
}

#[tokio::test]
async fn long_lines_are_cut_and_not_held() {
    let ran = shell("head -c 300000 /dev/zero | tr '\\0' x; echo; echo after").await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed);
    let log = ran.log();
    assert!(
        log.len() < 100_000 && log.contains("after"),
        "{}",
        log.len()
    );
}

#[tokio::test]
async fn lines_beyond_the_worker_s_rate_are_told_as_a_count() {
    let script = "i=0; while [ $i -lt 60 ]; do echo out; echo err >&2; i=$((i+1)); done";
    let host = Host {
        log_lines_per_second: 5,
        ..Host::for_test()
    };
    let given = assignment(&exec_spec(&["sh", "-c", script]));
    let ran = run_beside(given, Arc::new(host), |_| {}).await;
    let log = ran.log();
    for word in ["out", "err"] {
        let passed = log.lines().filter(|line| *line == word).count();
        assert!(passed >= 5, "{log}");
    }
    let left_out: usize = log
        .lines()
        .filter_map(|line| line.split_once(" lines left out: more than 5 a second"))
        .map(|(count, _)| count.parse::<usize>().unwrap())
        .sum();
    let passed = log
        .lines()
        .filter(|line| matches!(*line, "out" | "err"))
        .count();
    assert_eq!(left_out + passed, 120, "{log}");
}

/// What the worker has open is its own, and so are its rights.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_has_its_three_pipes_and_nothing_else_of_the_worker_s() {
    let script = r#"
import os
def leads(n):
    try:
        return os.readlink(f"/proc/self/fd/{n}")
    except FileNotFoundError:
        return None  # the listing itself
for n in sorted(map(int, os.listdir("/proc/self/fd"))):
    if leads(n):
        print("open", n, leads(n))
"#;
    // Beside others, with all that a worker opens.
    let spec = || exec_spec(&["python3", "-I", "-c", script]);
    let many = futures::future::join_all((0..4).map(|_| run_alone(spec(), |_| {}))).await;
    for ran in many {
        assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{}", ran.log());
        let open: Vec<&str> = ran
            .log()
            .lines()
            .filter(|line| line.starts_with("open "))
            .collect();
        assert_eq!(open.len(), 3, "{open:?}");
        assert!(open[0].starts_with("open 0 /dev/null"), "{open:?}");
        for (n, line) in open.iter().enumerate().skip(1) {
            assert!(line.starts_with(&format!("open {n} pipe:")), "{open:?}");
        }
    }
}
