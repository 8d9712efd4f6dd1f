//! Which trial gets which slots.
//!
//! | file | owns |
//! |---|---|
//! | `dispatch`, `assign` | giving free slots to trials; making their attempts |
//! | `slots` | the index of free slots and the workspaces' accounts, kept up to date |
//! | `waiting`, `reserve`, `preempt` | why jobs wait; slots kept for a named job; who leaves for it |
//! | `vacate` | slots asked back |
//! | `workspaces` | weights and quotas |

mod assign;
pub(super) mod dispatch;
pub(super) mod preempt;
pub(super) mod reserve;
pub(super) mod slots;
mod vacate;
mod waiting;
mod workspaces;
