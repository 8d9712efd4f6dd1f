//! Follows the pipes of a program: its lines become reports and log lines.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use trainyard_proto::v1::{Progress, report::Body};

use super::Until;
use super::checkpoints::ProgramCheckpoints;
use super::meter::Meter;
use super::report::{Parsed, Reading};
use crate::outbox::{Level, Reporter};

/// The longest line that is read, in bytes; the rest of it is left out.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// What standard output came to.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// The last step that was reported.
    pub(super) step: u64,
    /// Why the configuration cannot be, if the program said so.
    pub(super) infeasible: Option<String>,
}

/// Turns standard output into reports and log lines.
pub(super) async fn follow_output(
    pipe: impl AsyncRead + Unpin,
    reporter: Reporter,
    until: Until,
    checkpoints: ProgramCheckpoints,
) -> Followed {
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
            Parsed::Report(..) if reporter.key.rank != 0 => {}
            // Told now it would not be counted once the trial gets there.
            Parsed::Report(..) if until.is_reached() => meter.line(&reporter, Level::Info, &line),
            Parsed::Report(progress, checkpoint) => {
                let (epoch, step) = (progress.epoch, progress.step);
                let metrics = progress.metrics.iter();
                let metrics = metrics
                    .map(|metric| (metric.name.clone(), metric.value))
                    .collect();
                report(&reporter, &mut meter, progress).await;
                if let Some(path) = checkpoint
                    && let Err(why) = checkpoints.take(path.as_ref(), epoch, step, metrics).await
                {
                    meter.line(&reporter, Level::Warn, &why);
                }
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
pub(super) async fn follow_errors(pipe: impl AsyncRead + Unpin, reporter: Reporter) -> String {
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
