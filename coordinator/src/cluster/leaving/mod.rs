//! Ended jobs into archives, and out of the records.

mod leave;
pub(super) mod removal;
