//! What the machine consists of: parts that keep their own fields consistent, and know nothing of it.

mod graces;
mod jobs;
pub(super) mod requests;
mod retention;

pub(in crate::cluster) use graces::Graces;
pub(in crate::cluster) use jobs::Jobs;
pub(in crate::cluster) use requests::Requests;
pub(in crate::cluster) use retention::Retention;
