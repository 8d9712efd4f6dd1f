//! Which trial gets which slots.
//!
//! | file | owns |
//! |---|---|
//! | `dispatch`, `assign` | giving free slots to trials; making their attempts |
//! | `slots` | the index of free slots and the workspaces' accounts, kept up to date |
//! | `waiting`, `reserve`, `preempt` | why jobs wait; when slots are kept for a named job; who leaves for it |
//! | `kept`, `field` | slots that are kept for a job; slots that it could have if others left |
//! | `vacate` | slots asked back |
//! | `workspaces` | weights and quotas |

mod assign;
pub(super) mod dispatch;
mod field;
pub(super) mod kept;
pub(super) mod preempt;
pub(super) mod reserve;
pub(super) mod slots;
mod vacate;
mod waiting;
mod workspaces;
