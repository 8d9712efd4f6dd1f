//! From the command line to its verb.

use clap::CommandFactory;

use crate::cli::{
    ArtifactVerb, CheckpointVerb, Cli, ModelVerb, TrialVerb, Verb, WorkerVerb, WorkspaceVerb,
};
use crate::exit::Outcome;
use crate::verbs::{
    artifact, checkpoint, completion, job, model_summary, run, schema, search, trial, validate,
    worker, workspace,
};

/// Does what the command line says.
pub(crate) async fn dispatch(cli: Cli) -> Outcome {
    let global = &cli.global;
    match cli.verb {
        Verb::Run(args) => Box::pin(run::run(global, args)).await,
        Verb::Submit(args) => Box::pin(job::submit::run(global, args)).await,
        Verb::Validate(args) => validate::run(global, &args),
        Verb::Preview(args) => Box::pin(search::preview::run(global, args)).await,
        Verb::AskTell(args) => search::ask_tell::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Model(ModelVerb::Summary(args)) => Box::pin(model_summary::run(global, args)).await,
        Verb::List(args) => Box::pin(job::list::run(global, args)).await,
        Verb::Describe(args) => Box::pin(job::describe::run(global, args)).await,
        Verb::Watch(args) => Box::pin(job::watch::run(global, args)).await,
        Verb::Logs(args) => Box::pin(job::logs::run(global, args)).await,
        Verb::Wait(args) => Box::pin(job::wait::run(global, args)).await,
        Verb::Best(args) => Box::pin(job::best::run(global, args)).await,
        Verb::Cancel(args) => Box::pin(job::cancel::run(global, args)).await,
        Verb::Archive(args) => Box::pin(job::archive::run(global, args)).await,
        Verb::Delete(args) => Box::pin(job::delete::run(global, args)).await,
        Verb::Extend(args) => Box::pin(job::extend::run(global, args)).await,
        Verb::Pause(args) => Box::pin(job::pause::run(global, args)).await,
        Verb::Resume(args) => Box::pin(job::resume::run(global, args)).await,
        Verb::Insight(args) => Box::pin(search::insight::run(global, args)).await,
        Verb::Replay(args) => Box::pin(search::replay::run(global, args)).await,
        Verb::Trial(TrialVerb::Pause(args)) => Box::pin(trial::pause::run(global, args)).await,
        Verb::Trial(TrialVerb::Resume(args)) => Box::pin(trial::resume::run(global, args)).await,
        Verb::Trial(TrialVerb::Retry(args)) => Box::pin(trial::retry::run(global, args)).await,
        Verb::Trial(TrialVerb::List(args)) => Box::pin(trial::list::run(global, args)).await,
        Verb::Trial(TrialVerb::Describe(args)) => {
            Box::pin(trial::describe::run(global, args)).await
        }
        Verb::Trial(TrialVerb::Explain(args)) => Box::pin(trial::explain::run(global, args)).await,
        Verb::Trial(TrialVerb::Verify(args)) => Box::pin(trial::verify::run(global, args)).await,
        Verb::Trial(TrialVerb::Logs(args)) => Box::pin(trial::logs::run(global, args)).await,
        Verb::Checkpoint(CheckpointVerb::List(args)) => {
            Box::pin(checkpoint::list::run(global, args)).await
        }
        Verb::Checkpoint(CheckpointVerb::Download(args)) => {
            Box::pin(checkpoint::download::run(global, args)).await
        }
        Verb::Checkpoint(CheckpointVerb::Verify(args)) => {
            Box::pin(checkpoint::verify::run(global, args)).await
        }
        Verb::Artifact(ArtifactVerb::List(args)) => {
            Box::pin(artifact::list::run(global, args)).await
        }
        Verb::Artifact(ArtifactVerb::Download(args)) => {
            Box::pin(artifact::download::run(global, args)).await
        }
        Verb::Worker(WorkerVerb::Drain(args)) => Box::pin(worker::drain::drain(global, args)).await,
        Verb::Worker(WorkerVerb::Undrain(args)) => {
            Box::pin(worker::drain::undrain(global, args)).await
        }
        Verb::Worker(WorkerVerb::Forget(args)) => Box::pin(worker::forget::run(global, args)).await,
        Verb::Worker(WorkerVerb::List(args)) => Box::pin(worker::list::run(global, args)).await,
        Verb::Workspace(WorkspaceVerb::List(args)) => Box::pin(workspace::list(global, args)).await,
        Verb::Workspace(WorkspaceVerb::Show(args)) => Box::pin(workspace::show(global, args)).await,
        Verb::Workspace(WorkspaceVerb::Set(args)) => Box::pin(workspace::set(global, args)).await,
        Verb::Workspace(WorkspaceVerb::Remove(args)) => {
            Box::pin(workspace::remove(global, args)).await
        }
        Verb::Completion(args) => completion::run(global, &args, Cli::command()),
    }
}
