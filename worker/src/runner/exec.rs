//! Runs a trial that is a program: its environment, its output, its end.
//!
//! The program has a process group of its own, so that stopping it stops whatever it started. What
//! its lines mean is decided in [`super::output`]. Beside the variables that the spec documents, a
//! program gets `TRAINYARD_GENERATION` and, for the ranks of a gang, `TRAINYARD_RANK_HOSTS` (the hosts
//! of all ranks in order, separated by commas).

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use trainyard_common::spec::EntrypointSpec;
use trainyard_proto::v1::{Progress, Started, report::Body};

use super::group::Group;
use super::memory::OomKills;
use super::output::{Meter, Parsed, Reading};
use super::{End, Host, Stop, StopSignal, Task, memory};
use crate::agent::logs::Level;
use crate::agent::outbox::Reporter;
use crate::devices::{Devices, VISIBLE};

/// Between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// A program that has reported the last epoch that it was to train gets so long to save what it wants
/// and to end by itself.
const UNTIL_GRACE: Duration = Duration::from_secs(10);
/// The same for a program whose end nobody waits for.
const ABANDON_GRACE: Duration = Duration::from_secs(1);
/// How long output may still come once the program has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
/// By this exit code (`EX_CONFIG` of sysexits.h) a program says that its configuration cannot be.
const EXIT_INFEASIBLE: i32 = 78;
/// The longest line that is read, in bytes; the rest of it is left out.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Runs the program to its end.
pub(super) async fn run(task: &Task, reporter: &Reporter, host: &Host) -> End {
    let Some(entrypoint) = &task.spec.job.entrypoint else {
        return End::error("the spec has no `entrypoint`", 0);
    };
    let Some(program) = entrypoint.command.first() else {
        return End::error(
            "entrypoint.command is empty; expected a program and its arguments",
            0,
        );
    };
    let oom_kills = OomKills::now();
    let mut command = command(task, &host.devices, entrypoint, program);
    if !host.watchdog.is_there() {
        die_with_the_worker(&mut command);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return End::error(format!("cannot start `{program}`: {error}"), 0),
    };
    let mut group = Group::of(&child, &host.watchdog);
    reporter.info(&format!("started `{}`", entrypoint.command.join(" ")));
    if reporter.key.rank == 0 {
        reporter.report(Body::Started(Started::default())).await;
    }
    let until = Until::of(task);
    let output = child
        .stdout
        .take()
        .map(|pipe| tokio::spawn(follow_output(pipe, reporter.clone(), until.clone())));
    let errors = child
        .stderr
        .take()
        .map(|pipe| tokio::spawn(follow_errors(pipe, reporter.clone())));
    let (status, stopped) = wait(&mut child, &mut group, reporter, &until).await;
    let Followed { step, infeasible } = rest(output).await.unwrap_or_default();
    let last_error = rest(errors).await.unwrap_or_default();
    match (status, stopped) {
        (_, Some(stop)) => End::stopped(stop, step),
        // However it ended: it has done what it was to do.
        (Ok(_), None) if until.is_reached() => End::paused(step),
        (Ok(_), None) if let Some(why) = infeasible => End::infeasible(why, step),
        (Ok(status), None) if status.success() => End::completed(step),
        (Ok(status), None) => failed(status, oom_kills, &last_error, step),
        (Err(error), None) => End::error(format!("cannot wait for `{program}`: {error}"), step),
    }
}

/// What it means that a program ended like this.
fn failed(status: ExitStatus, before: OomKills, last_error: &str, step: u64) -> End {
    let how = describe(status, last_error);
    if status.code() == Some(EXIT_INFEASIBLE) {
        End::infeasible(how, step)
    } else if before.explain(status.code(), status.signal()) {
        End::out_of_memory(format!("{how}; the kernel killed it for its memory"), step)
    } else if memory::is_meant_by(last_error) {
        End::out_of_memory(how, step)
    } else {
        End::error(how, step)
    }
}

fn command(task: &Task, devices: &Devices, entrypoint: &EntrypointSpec, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(&entrypoint.command[1..])
        .envs(&entrypoint.environment)
        .envs(environment(task, devices))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(directory) = &entrypoint.working_directory {
        command.current_dir(directory);
    }
    command
}

/// A killed worker's programs would train on beside their successors on other workers: where there is no
/// watchdog, the kernel kills at least the program itself. Not otherwise, since a worker that is to do
/// something between fork and exec has to be copied for that, page table and all.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn die_with_the_worker(command: &mut Command) {
    let die = || {
        // SAFETY: prctl is a plain system call, allowed between fork and exec; it takes no pointers.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if result == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: the closure allocates nothing and takes no locks.
    unsafe {
        command.pre_exec(die);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_the_worker(_: &mut Command) {}

fn environment(task: &Task, devices: &Devices) -> Vec<(&'static str, String)> {
    let assignment = &task.assignment;
    let params = serde_json::Value::Object(task.spec.params.clone());
    let hosts: Vec<&str> = assignment
        .ranks
        .iter()
        .map(|rank| {
            rank.collective_address
                .rsplit_once(':')
                .map_or("", |(host, _)| host)
        })
        .collect();
    let mut variables = vec![
        ("TRAINYARD_PARAMS", params.to_string()),
        ("TRAINYARD_JOB_ID", assignment.job_id.clone()),
        ("TRAINYARD_TRIAL_ID", assignment.trial_id.to_string()),
        ("TRAINYARD_ATTEMPT", assignment.attempt.to_string()),
        ("TRAINYARD_GENERATION", assignment.generation.to_string()),
        ("TRAINYARD_SEED", task.spec.trial_seed.to_string()),
        ("TRAINYARD_RANK", assignment.rank.to_string()),
        ("TRAINYARD_WORLD_SIZE", assignment.ranks.len().to_string()),
        ("TRAINYARD_RANK_HOSTS", hosts.join(",")),
    ];
    let rank = assignment.ranks.get(assignment.rank as usize);
    if let Some(gpus) = rank.and_then(|rank| devices.visible(&rank.slots)) {
        variables.push((VISIBLE, gpus));
    }
    if let Some(epoch) = assignment.until_epoch {
        variables.push(("TRAINYARD_UNTIL_EPOCH", epoch.to_string()));
    }
    variables
}

/// How far the program is to train, and whether it has reported that it did.
#[derive(Clone)]
struct Until {
    epoch: Option<u64>,
    reached: Arc<StopSignal>,
}

impl Until {
    fn of(task: &Task) -> Self {
        Self {
            epoch: task.assignment.until_epoch,
            reached: Arc::default(),
        }
    }

    fn told(&self, epoch: u64) {
        if self.epoch.is_some_and(|until| epoch >= until) {
            self.reached.request(Stop::Checkpoint);
        }
    }

    fn is_reached(&self) -> bool {
        self.reached.get().is_some()
    }

    /// Resolves once the program has had its time to end by itself.
    async fn overdue(&self) {
        self.reached.requested().await;
        tokio::time::sleep(UNTIL_GRACE).await;
    }
}

/// Waits for the program's end, or for being told to stop and then for its end.
async fn wait(
    child: &mut Child,
    group: &mut Group,
    reporter: &Reporter,
    until: &Until,
) -> (std::io::Result<ExitStatus>, Option<Stop>) {
    tokio::select! {
        biased;
        status = group.wait(child) => return (status, None),
        () = reporter.stop.requested() => {}
        () = until.overdue() => {}
    }
    let why = match reporter.stop.get() {
        Some(_) => "told to stop",
        None => "it has trained as far as it was to",
    };
    reporter.info(&format!("{why}: the program gets SIGTERM"));
    group.signal(libc::SIGTERM);
    // A program that is suspended gets it only once it goes on.
    group.signal(libc::SIGCONT);
    let abandoned = async {
        reporter.stop.reached(Stop::Abandoned).await;
        tokio::time::sleep(ABANDON_GRACE).await;
    };
    let ended = tokio::select! {
        status = group.wait(child) => Some(status),
        () = tokio::time::sleep(STOP_GRACE) => None,
        () = abandoned => None,
    };
    let status = match ended {
        Some(status) => status,
        None => kill(child, group, reporter).await,
    };
    (status, reporter.stop.get())
}

async fn kill(
    child: &mut Child,
    group: &mut Group,
    reporter: &Reporter,
) -> std::io::Result<ExitStatus> {
    reporter.warn("the program did not end: SIGKILL");
    group.signal(libc::SIGKILL);
    group.wait(child).await
}

fn describe(status: ExitStatus, last_error: &str) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program ended with exit code {code}"),
        (None, Some(signal)) => format!("the program was killed by signal {signal}"),
        (None, None) => format!("the program ended with {status}"),
    };
    if last_error.is_empty() {
        how
    } else {
        format!("{how}; last line on standard error: {last_error}")
    }
}

/// What a follower found, within the grace.
async fn rest<T>(follower: Option<JoinHandle<T>>) -> Option<T> {
    let mut follower = follower?;
    match tokio::time::timeout(OUTPUT_GRACE, &mut follower).await {
        Ok(found) => found.ok(),
        Err(_) => {
            follower.abort();
            None
        }
    }
}

/// What standard output came to.
#[derive(Debug, Default)]
struct Followed {
    /// The last step that was reported.
    step: u64,
    /// Why the configuration cannot be, if the program said so.
    infeasible: Option<String>,
}

/// Turns standard output into reports and log lines.
async fn follow_output(pipe: impl AsyncRead + Unpin, reporter: Reporter, until: Until) -> Followed {
    let mut lines = Lines::new(pipe);
    let mut reading = Reading::default();
    let mut meter = Meter::default();
    let mut infeasible = None;
    while let Some(line) = lines.next().await {
        reporter.activity.sign();
        match reading.line(&line) {
            Parsed::Infeasible(why) => {
                meter.line(&reporter, Level::Warn, &line);
                infeasible = Some(why);
            }
            Parsed::Text => meter.line(&reporter, Level::Info, &line),
            Parsed::Refused(why) => {
                let text = format!("a line with \"metrics\" is no report: {why}: {line}");
                meter.line(&reporter, Level::Warn, &text);
            }
            // Every rank of a gang may print metrics; those of rank 0 count.
            Parsed::Report(_) if reporter.key.rank != 0 => {}
            // Told now it would not be counted once the trial gets there.
            Parsed::Report(_) if until.is_reached() => meter.line(&reporter, Level::Info, &line),
            Parsed::Report(progress) => {
                let epoch = progress.epoch;
                report(&reporter, &mut meter, progress).await;
                until.told(epoch);
            }
        }
    }
    meter.end(&reporter);
    Followed {
        step: reading.step(),
        infeasible,
    }
}

async fn report(reporter: &Reporter, meter: &mut Meter, progress: Progress) {
    reporter.activity.reached(progress.step);
    let metrics: Vec<String> = progress
        .metrics
        .iter()
        .map(|metric| format!("{} {:.6}", metric.name, metric.value))
        .collect();
    let text = format!("step {}: {}", progress.step, metrics.join(", "));
    meter.line(reporter, Level::Info, &text);
    reporter.report(Body::Progress(progress)).await;
}

/// Turns standard error into log lines; gives the last one that is not empty.
async fn follow_errors(pipe: impl AsyncRead + Unpin, reporter: Reporter) -> String {
    let mut lines = Lines::new(pipe);
    let mut meter = Meter::default();
    let mut last = String::new();
    while let Some(line) = lines.next().await {
        reporter.activity.sign();
        meter.line(&reporter, Level::Warn, &line);
        if !line.trim().is_empty() {
            last = line;
        }
    }
    meter.end(&reporter);
    last
}

/// Lines of a pipe, each bounded.
struct Lines<R>(BufReader<R>);

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(pipe: R) -> Self {
        Self(BufReader::new(pipe))
    }

    /// The next line without its end; bytes that are no UTF-8 are replaced. `None`: the pipe is closed.
    async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            let chunk = match self.0.fill_buf().await {
                Ok([]) | Err(_) if line.is_empty() => return None,
                Ok([]) | Err(_) => break,
                Ok(chunk) => chunk,
            };
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let text = &chunk[..newline.unwrap_or(chunk.len())];
            let room = MAX_LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&text[..text.len().min(room)]);
            let consumed = newline.map_or(chunk.len(), |at| at + 1);
            self.0.consume(consumed);
            if newline.is_some() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&line);
        Some(text.trim_end_matches('\r').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use trainyard_proto::v1::AttemptOutcome;

    use super::*;
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
}
