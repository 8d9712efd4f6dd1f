//! What the current step has changed so far.

pub(in crate::cluster) use super::model::Draft;
