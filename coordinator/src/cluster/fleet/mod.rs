//! Workers.
//!
//! | file | owns |
//! |---|---|
//! | `workers` | sessions, leases, re-attachment, loss |
//! | `proofs` | who may use which store |
//! | `pulses`, `standing` | what heartbeats tell of ranks; hung, silent and slow told apart |
//! | `event` | who comes, and who is to go: what is asked about workers |
//! | `identity` | who may speak in a worker's name |
//! | `drain`, `drained` | workers that are to become empty, or that leave |

mod drain;
pub(super) mod drained;
mod event;
mod identity;
mod proofs;
mod pulses;
mod standing;
mod workers;
