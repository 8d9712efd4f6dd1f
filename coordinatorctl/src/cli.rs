//! The command line: verbs and the options that all of them take. Each verb's own arguments stand in
//! its file under `verbs`.

use clap::{Parser, Subcommand};

use crate::options::Global;
use crate::verbs;

/// Train and search on one machine, or drive a Trainyard cluster.
#[derive(Debug, Parser)]
#[command(
    name = "coordinatorctl",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done; 1 the job or a trial failed; 2 bad usage or spec; \
                  3 coordinator or store unreachable; 4 not found; 124 wait timed out; \
                  130 interrupted, the job can go on."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(verbs::run::Args),
    Submit(verbs::job::submit::Args),
    Validate(verbs::validate::Args),
    Preview(verbs::search::preview::Args),
    AskTell(verbs::search::ask_tell::Args),
    Schema(verbs::schema::Args),
    /// Look at the network of a job
    #[command(subcommand)]
    Model(ModelVerb),
    List(verbs::job::list::Args),
    Describe(verbs::job::describe::Args),
    Watch(verbs::job::watch::Args),
    Logs(verbs::job::logs::Args),
    Wait(verbs::job::wait::Args),
    Best(verbs::job::best::Args),
    Insight(verbs::search::insight::Args),
    Cancel(verbs::job::cancel::Args),
    Archive(verbs::job::archive::Args),
    Delete(verbs::job::delete::Args),
    Extend(verbs::job::extend::Args),
    Pause(verbs::job::pause::Args),
    Resume(verbs::job::resume::Args),
    Replay(verbs::search::replay::Args),
    /// Look at the trials of a job
    #[command(subcommand)]
    Trial(TrialVerb),
    /// Look at, fetch and check the checkpoints of a job
    #[command(subcommand)]
    Checkpoint(CheckpointVerb),
    /// Look at and fetch what the programs of a job have kept
    #[command(subcommand)]
    Artifact(ArtifactVerb),
    /// Look at the workers of a cluster, and empty them
    #[command(subcommand)]
    Worker(WorkerVerb),
    /// Look at workspaces, and set their shares and quotas
    #[command(subcommand)]
    Workspace(WorkspaceVerb),
    Completion(verbs::completion::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelVerb {
    Summary(verbs::model_summary::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrialVerb {
    List(verbs::trial::list::Args),
    Describe(verbs::trial::describe::Args),
    Logs(verbs::trial::logs::Args),
    Explain(verbs::trial::explain::Args),
    Verify(verbs::trial::verify::Args),
    Pause(verbs::trial::pause::Args),
    Resume(verbs::trial::resume::Args),
    Retry(verbs::trial::retry::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointVerb {
    List(verbs::checkpoint::list::Args),
    Download(verbs::checkpoint::download::Args),
    Verify(verbs::checkpoint::verify::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactVerb {
    List(verbs::artifact::list::Args),
    Download(verbs::artifact::download::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerVerb {
    List(verbs::worker::list::Args),
    Drain(verbs::worker::drain::DrainArgs),
    Undrain(verbs::worker::drain::UndrainArgs),
    Forget(verbs::worker::forget::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceVerb {
    List(verbs::workspace::ListArgs),
    Show(verbs::workspace::ShowArgs),
    Set(verbs::workspace::SetArgs),
    Remove(verbs::workspace::RemoveArgs),
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::CommandFactory;

    use super::*;
    use crate::options::Format;

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_after_the_verb() {
        let line = "coordinatorctl list --output json --coordinator http://10.0.0.1:1 --data-dir d";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.global.output, Format::Json);
        assert_eq!(cli.global.coordinator, "http://10.0.0.1:1");
        assert_eq!(cli.global.data_dir, Some(PathBuf::from("d")));
    }

    #[test]
    fn every_verb_parses() {
        let lines = [
            "run job.yaml --set a=1 --set b.c=2 --limit 10 --slots 2 --resume",
            "run job.yaml --fresh",
            "submit job.yaml --set a=1 --limit 10",
            "validate job.yaml",
            "preview job.yaml -n 3",
            "schema",
            "model summary job.yaml --params lr=0.1 --params units=32",
            "list --workspace w --limit 5",
            "describe j-1",
            "watch j-1",
            "logs -f j-1 --trial 2",
            "wait j-1 --timeout 90",
            "best j-1",
            "cancel j-1",
            "archive j-1",
            "delete j-1 --force --checkpoints",
            "list --archived --limit 5000",
            "extend j-1 --trials 5 --time 60",
            "pause j-1",
            "resume j-1",
            "trial pause j-1 3",
            "resume j-1 --retry-failed",
            "trial resume j-1 3",
            "trial retry j-1 3",
            "trial list j-1",
            "trial describe j-1 3",
            "trial logs j-1 3 -f",
            "trial explain j-1 3",
            "trial verify j-1 3 --replay 100",
            "checkpoint list j-1 --trial 3",
            "checkpoint download j-1 --to model",
            "checkpoint verify j-1",
            "artifact list j-1",
            "artifact list j-1 3",
            "artifact download j-1 3 plots/loss.png --to loss.png",
            "worker list",
            "worker drain w-1 --wait",
            "worker undrain w-1",
            "worker forget w-1",
            "workspace list",
            "workspace show team",
            "workspace set team --weight 2.5 --max-cpu-slots 8 --max-cuda-slots 0",
            "workspace set team --no-quota",
            "workspace remove team",
            "completion bash",
        ];
        for line in lines {
            let words = std::iter::once("coordinatorctl").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn bad_usage_is_refused() {
        let lines = [
            "run",
            "run job.yaml --resume --fresh",
            "run job.yaml --slots 0",
            "preview job.yaml -n 0",
            "trial describe j-1 first",
            "artifact download j-1 plot.png",
            "trial verify j-1 3 --replay 0",
            "wait j-1 --timeout soon",
            "completion tcsh",
            "workspace set",
            "workspace set team --max-cpu-slots many",
            "workspace set team --no-quota --max-cpu-slots 1",
            "lst",
        ];
        for line in lines {
            let words = std::iter::once("coordinatorctl").chain(line.split(' '));
            let error = Cli::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
