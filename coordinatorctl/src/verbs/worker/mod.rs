//! `worker`: verbs about the workers of a cluster.

pub(crate) mod drain;
pub(crate) mod forget;
pub(crate) mod list;
mod named;
