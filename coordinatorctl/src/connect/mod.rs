//! The way to a coordinator: the leader found and followed, questions and answers, and streams that
//! outlive a take-over.

mod bundles;
mod client;
mod greet;
mod leaving;
mod link;
mod streams;
mod workspaces;

use std::path::PathBuf;

pub(crate) use bundles::Bundle;
pub(crate) use client::Client;
pub(crate) use streams::{Logs, Watch};

/// Where a coordinator listens unless it was told otherwise.
pub(crate) const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7070";

/// Whom a verb asks.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// Addresses of coordinators, separated by commas.
    Coordinator(String),
    /// What `run` left in this directory.
    DataDir(PathBuf),
}
