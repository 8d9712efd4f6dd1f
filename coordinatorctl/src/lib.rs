//! `coordinatorctl`: what people drive Trainyard with.
//!
//! [`main`] is the process: arguments, runtime, one verb, one exit code. A program with layers of its own registers them
//! and calls it. What a verb does is in `verbs`; the exit codes and their meaning are in `exit`.

mod cli;
mod connect;
mod dispatch;
mod exit;
mod local;
mod options;
mod print;
mod session;
mod ship;
mod spec;
mod usage;
mod verbs;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use trainyard_common::process;
use trainyard_common::telemetry::{self, LogFormat};

/// How long threads that are still busy may hold up the end of the process.
const LINGER: Duration = Duration::from_secs(1);

/// The whole program: what its arguments ask for.
pub fn main() -> ExitCode {
    let cli = usage::parse();
    if let Err(failure) = log_to_stderr(&cli.global.log_level) {
        return print::report(Err(failure));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = exit::Failure::failed(format!("cannot start the runtime: {error}"));
            return print::report(Err(failure));
        }
    };
    let outcome = runtime.block_on(async {
        process::survive_file_size_limit()
            .map_err(|error| exit::Failure::failed(format!("cannot handle signals: {error}")))?;
        dispatch::dispatch(cli).await
    });
    runtime.shutdown_timeout(LINGER);
    print::report(outcome)
}

fn log_to_stderr(filter: &str) -> exit::Outcome {
    let colour = std::io::stderr().is_terminal();
    telemetry::init_with_writer(filter, LogFormat::Human, colour, view::live::LogWriter::new)
        .map_err(|error| exit::Failure::usage(format!("--log-level: {error}")))
}
