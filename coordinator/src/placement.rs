//! Which trial gets which slots: pure functions and structures, kept up to date change by change.
//!
//! A gang gets all its ranks or none. Its ranks lie near each other: in one worker if one has room
//! (the fullest that has), else in the workers of one machine, else over the fewest workers. Ranks of
//! one gang always run on one kind of processor, because results are equal in every bit only there.
//!
//! | file | owns |
//! |---|---|
//! | `index`, `pool` | which slots are free, for whom; where a gang fits |
//! | `queue` | who is next: priority, weighted fair share between workspaces, order of submission |
//! | `choose` | whose slots a gang gets that has to wait for others to leave |

pub mod choose;
pub mod index;
#[cfg(test)]
mod model;
mod pool;
pub mod queue;

use trainyard_common::ids::WorkerId;
use trainyard_common::spec::Device;

/// Kinds of devices.
pub const DEVICES: [Device; 2] = [Device::Cpu, Device::Cuda];

/// Its position in arrays that have one entry a kind of device.
pub fn at(device: Device) -> usize {
    match device {
        Device::Cpu => 0,
        Device::Cuda => 1,
    }
}

/// What is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// At least 1; one slot each.
    pub ranks: u32,
    pub device: Device,
}

/// What a job needs of a worker besides slots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needs {
    /// URL of the store that it must have proven.
    pub store: String,
    /// Whether it must run programs.
    pub programs: bool,
}

/// One rank's slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub worker: WorkerId,
    pub slot: u32,
}

/// Why nothing was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplaced {
    /// It would fit if every slot were free.
    Busy,
    /// It does not fit these workers at all; the most slots that one kind of processor has.
    TooLarge { largest: usize },
}
