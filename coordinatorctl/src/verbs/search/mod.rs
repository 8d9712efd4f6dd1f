//! Verbs about searches: before them, beside them, after them.

pub(crate) mod ask_tell;
pub(crate) mod insight;
pub(crate) mod preview;
pub(crate) mod replay;
pub(crate) mod searched;
mod simulate;
