//! `coordinatorctl` with a layer more: `gated`. What it does with a job is as ever; `run` trains it on this machine.

mod gated;

use std::process::ExitCode;

use trainyard_common::network::layers::{self, Kind};

fn main() -> ExitCode {
    match layers::register(vec![Kind::of::<gated::Gated>()]) {
        Ok(()) => coordinatorctl::main(),
        // Only if a later version brings a layer of this name.
        Err(_) => ExitCode::FAILURE,
    }
}
