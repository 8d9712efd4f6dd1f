//! Verbs about jobs.

pub(crate) mod archive;
pub(crate) mod best;
pub(crate) mod cancel;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod extend;
pub(crate) mod held;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod result;
pub(crate) mod resume;
pub(crate) mod submit;
pub(crate) mod wait;
pub(crate) mod watch;
