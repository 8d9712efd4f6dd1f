//! The options of every verb.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::connect::{DEFAULT_COORDINATOR, Endpoint};

/// Options of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// How results are written to standard output
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// The coordinator to ask; of several, separated by commas, the one that leads is found
    #[arg(
        long,
        global = true,
        env = "TRAINYARD_COORDINATOR",
        default_value = DEFAULT_COORDINATOR,
        value_name = "URL"
    )]
    pub(crate) coordinator: String,
    /// Directory in which `run` keeps its jobs (for `run`: by default ./trainyard-data). Other verbs
    /// look into it instead of asking a coordinator
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What is logged to standard error: a level, or directives such as warn,trainyard_worker=debug
    #[arg(
        long,
        global = true,
        env = "TRAINYARD_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    pub(crate) log_level: String,
}

impl Global {
    /// Whom a verb asks that looks at jobs.
    pub(crate) fn endpoint(&self) -> Endpoint {
        match &self.data_dir {
            Some(data_dir) => Endpoint::DataDir(data_dir.clone()),
            None => Endpoint::Coordinator(self.coordinator.clone()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: the shapes in docs/cli.md
    Json,
}

/// Which trial, of verbs that are about one.
#[derive(Debug, clap::Args)]
pub(crate) struct TrialArgs {
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    #[arg(value_name = "TRIAL")]
    pub(crate) trial: u32,
}
