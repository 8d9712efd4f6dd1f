//! Programs run by a shell, to their ends.

use trainyard_proto::v1::AttemptOutcome;

use crate::attempt::Stop;
use crate::runner::testing::{Ran, assignment, exec_spec, run_alone, run_assignment};

async fn shell(script: &str) -> Ran {
    run_alone(exec_spec(&["sh", "-c", script]), |_| {}).await
}

#[tokio::test]
async fn metrics_become_reports_and_everything_else_becomes_log_lines() {
    let ran = shell(
        r#"echo hello; echo '{"metrics": {"loss": 0.5}}'; echo oops >&2
           echo '{"metrics": {"loss": 0.25, "n": 2}, "step": 10, "epoch": 4}'
           echo '{"metrics": {"loss": NaN}}'; echo '{"metrics": 3}'"#,
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
    assert_eq!(log.matches("is no report").count(), 2, "{log}");
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
    assert!(ran.log().contains("SIGTERM"), "{}", ran.log());
    // One that ends before.
    let early = r#"echo '{"metrics": {"loss": 1}}'"#;
    let ran = run_assignment(two(early), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{:?}", ran.end);
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
