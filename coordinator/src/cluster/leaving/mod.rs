//! Ended jobs into archives, and out of the records.

pub(super) mod leave;
