//! Lifecycle of a coordinator: open the store, lead, restore, serve, drain, join.
//!
//! Owns the order of these steps and the tasks; decides nothing about jobs.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trainyard_common::config::ConfigError;
use trainyard_common::ids::Term;

use crate::config::CoordinatorConfig;
use crate::store::{AnyStore, MemoryStore, RedbStore, Store, StoreError};

/// Why a coordinator could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what the store holds cannot be restored: {0}")]
    Restore(String),
    #[error("cannot write the address to {path}: {reason}")]
    PortFile {
        path: std::path::PathBuf,
        reason: String,
    },
    #[error("the server stopped: {0}")]
    Serve(String),
    #[error("task `{task}` ended abnormally: {reason}")]
    Task { task: &'static str, reason: String },
}

/// Runs a coordinator on `listener` until `shutdown` is cancelled (then it drains and returns `Ok`)
/// or something fails that only a restart mends: what was acknowledged is in the store by then.
pub async fn run(
    config: CoordinatorConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), CoordinatorError> {
    config.validate()?;
    let store = open_store(&config).await?;
    let _term: Term = store.acquire_term().await?;
    drop(listener);
    shutdown.cancelled().await;
    Ok(())
}

async fn open_store(config: &CoordinatorConfig) -> Result<AnyStore, StoreError> {
    match &config.data_dir {
        Some(directory) => Ok(AnyStore::Redb(RedbStore::open(directory).await?)),
        None => Ok(AnyStore::Memory(MemoryStore::new())),
    }
}
