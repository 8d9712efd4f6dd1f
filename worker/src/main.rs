//! The worker program: reads its configuration, runs until told to leave, and says why it ended.

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trainyard_common::{process, telemetry};
use trainyard_worker::agent::{self, WorkerError};
use trainyard_worker::config::{WorkerCommand, WorkerConfig};

/// Large tensors are allocated and freed every step: measured faster than the system's allocator on
/// every convolutional model.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line or a setting is wrong.
const EXIT_USAGE: u8 = 2;
/// No coordinator, or one that refuses this worker.
const EXIT_UNREACHABLE: u8 = 3;
/// A second signal: leave at once. 128 + SIGINT, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let command = WorkerCommand::parse();
    if let Err(error) = telemetry::init(&command.log, command.log_format) {
        return fail(&error, EXIT_USAGE);
    }
    trainyard_common::files::raise();
    let config = match WorkerConfig::load(command.config.as_deref(), &command.flags) {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let ended = runtime.block_on(run(config));
    // Attempts that did not stop in time end with the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref() {
            Some(WorkerError::Config(_)) => fail(&*error, EXIT_USAGE),
            Some(WorkerError::Unreachable { .. } | WorkerError::Refused { .. }) => {
                fail(&*error, EXIT_UNREACHABLE)
            }
            _ => fail(&*error, 1),
        },
    }
}

async fn run(config: WorkerConfig) -> anyhow::Result<()> {
    process::survive_file_size_limit()?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.is_cancelled() {
                tracing::warn!("told to leave twice: leaving at once");
                std::process::exit(EXIT_INTERRUPTED);
            }
            told.cancel();
        }
    });
    agent::run(config, shutdown).await?;
    Ok(())
}

/// The one message of a failure, whatever is logged.
#[allow(clippy::print_stderr)]
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}
