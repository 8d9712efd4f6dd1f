//! Ended jobs into archives, and out of the records.
//!
//! | file | owns |
//! |---|---|
//! | `retention` | how long they stay |
//! | `leave` | how they go |

mod leave;
mod retention;
