//! `schema`: the JSON Schema of a job spec.

use crate::exit::Outcome;
use crate::print;

/// Print the JSON Schema of a job spec, for editors
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Outcome {
    // The same in both output formats: a schema is JSON.
    print::json(&trainyard_common::spec::json_schema())
}
