//! Why the loop had to stop, and why a call into it did not go on.

use crate::clients::Full;
use crate::cluster::api::Rejection;
use crate::store::StoreError;

/// Why the loop had to stop. Memory is ahead of the store then, so only a restart helps.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("what was decided could not be stored, so the coordinator stops: {0}")]
    Store(#[from] StoreError),
    #[error("what was decided has no stored form: {0}")]
    Encode(String),
}

/// Why a call into the loop, or a session, did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the coordinator is stopping; ask again when it is back")]
    Stopped,
    #[error("{}", not_leading(leader.as_deref()))]
    NotLeading {
        /// The address of the coordinator that does lead, where it is known.
        leader: Option<String>,
    },
    #[error("too many open calls that watch or follow: {0}")]
    TooMany(Full),
    #[error("the worker's connection broke")]
    Disconnected,
    #[error("the session was replaced: {0}")]
    Replaced(String),
    #[error("the worker does not read its messages: {waiting} were waiting")]
    TooSlow { waiting: usize },
    #[error("{0}")]
    Malformed(String),
    /// Its message was not received; another try may fare better.
    #[error("{0}")]
    NotReceived(String),
}

fn not_leading(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this coordinator does not lead; {leader} does"),
        None => "this coordinator does not lead; who does is not known yet".to_owned(),
    }
}
