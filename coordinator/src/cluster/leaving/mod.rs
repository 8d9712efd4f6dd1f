//! Ended jobs into archives, and out of the records.
//!
//! | file | owns |
//! |---|---|
//! | `retention` | how long they stay |
//! | `leave`, `removal` | how they go; what is left of those that are gone |

mod leave;
pub(super) mod removal;
mod retention;
