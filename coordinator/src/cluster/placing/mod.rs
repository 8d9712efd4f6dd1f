//! Which trial gets which slots.
//!
//! | file | owns |
//! |---|---|
//! | `dispatch`, `assign` | giving free slots to trials; making their attempts |
//! | `slots` | the index of free slots and the workspaces' accounts, kept up to date |
//! | `want`, `line`, `waiting` | what jobs would do with slots; since when they wait; why |
//! | `reserve`, `preempt` | when slots are kept for a job that has waited; who leaves for one of higher priority |
//! | `kept`, `field`, `asking` | slots that are kept for a job; those that it could have; who may be asked to leave |
//! | `workspaces` | weights and quotas |

pub(super) mod asking;
mod assign;
mod dispatch;
mod field;
mod kept;
mod line;
mod preempt;
pub(super) mod reserve;
mod slots;
mod waiting;
mod want;
mod workspaces;
