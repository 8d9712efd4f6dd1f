//! Workers.
//!
//! | file | owns |
//! |---|---|
//! | `workers` | sessions, leases, re-attachment, proofs of stores |
//! | `vitality` | hung, silent and slow told apart |
//! | `drain` | workers that are to become empty |

pub(super) mod drain;
pub(super) mod vitality;
mod workers;
