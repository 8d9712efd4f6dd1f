//! The verbs, one file each: its arguments and what it does.

pub(crate) mod archive;
pub(crate) mod ask_tell;
pub(crate) mod best;
pub(crate) mod cancel;
pub(crate) mod checkpoint_download;
pub(crate) mod checkpoint_list;
pub(crate) mod checkpoint_verify;
pub(crate) mod completion;
pub(crate) mod delete;
pub(crate) mod describe;
mod describe_result;
pub(crate) mod extend;
mod held;
pub(crate) mod insight;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod model_summary;
pub(crate) mod pause;
pub(crate) mod preview;
mod preview_simulate;
pub(crate) mod replay;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod submit;
pub(crate) mod trial_describe;
pub(crate) mod trial_explain;
pub(crate) mod trial_list;
pub(crate) mod trial_logs;
pub(crate) mod trial_pause;
pub(crate) mod trial_resume;
pub(crate) mod validate;
pub(crate) mod wait;
pub(crate) mod watch;
pub(crate) mod worker_drain;
pub(crate) mod worker_list;
pub(crate) mod workspace;

use crate::cli::{CheckpointVerb, Cli, ModelVerb, TrialVerb, Verb, WorkerVerb, WorkspaceVerb};
use crate::exit::Outcome;

/// Does what the command line says.
pub(crate) async fn dispatch(cli: Cli) -> Outcome {
    let global = &cli.global;
    match cli.verb {
        Verb::Run(args) => Box::pin(run::run(global, args)).await,
        Verb::Submit(args) => Box::pin(submit::run(global, args)).await,
        Verb::Validate(args) => validate::run(global, &args),
        Verb::Preview(args) => Box::pin(preview::run(global, args)).await,
        Verb::AskTell(args) => ask_tell::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Model(ModelVerb::Summary(args)) => Box::pin(model_summary::run(global, args)).await,
        Verb::List(args) => Box::pin(list::run(global, args)).await,
        Verb::Describe(args) => Box::pin(describe::run(global, args)).await,
        Verb::Watch(args) => Box::pin(watch::run(global, args)).await,
        Verb::Logs(args) => Box::pin(logs::run(global, args)).await,
        Verb::Wait(args) => Box::pin(wait::run(global, args)).await,
        Verb::Best(args) => Box::pin(best::run(global, args)).await,
        Verb::Cancel(args) => Box::pin(cancel::run(global, args)).await,
        Verb::Archive(args) => Box::pin(archive::run(global, args)).await,
        Verb::Delete(args) => Box::pin(delete::run(global, args)).await,
        Verb::Extend(args) => Box::pin(extend::run(global, args)).await,
        Verb::Pause(args) => Box::pin(pause::run(global, args)).await,
        Verb::Resume(args) => Box::pin(resume::run(global, args)).await,
        Verb::Insight(args) => Box::pin(insight::run(global, args)).await,
        Verb::Replay(args) => Box::pin(replay::run(global, args)).await,
        Verb::Trial(TrialVerb::Pause(args)) => Box::pin(trial_pause::run(global, args)).await,
        Verb::Trial(TrialVerb::Resume(args)) => Box::pin(trial_resume::run(global, args)).await,
        Verb::Trial(TrialVerb::List(args)) => Box::pin(trial_list::run(global, args)).await,
        Verb::Trial(TrialVerb::Describe(args)) => Box::pin(trial_describe::run(global, args)).await,
        Verb::Trial(TrialVerb::Explain(args)) => Box::pin(trial_explain::run(global, args)).await,
        Verb::Trial(TrialVerb::Logs(args)) => Box::pin(trial_logs::run(global, args)).await,
        Verb::Checkpoint(CheckpointVerb::List(args)) => {
            Box::pin(checkpoint_list::run(global, args)).await
        }
        Verb::Checkpoint(CheckpointVerb::Download(args)) => {
            Box::pin(checkpoint_download::run(global, args)).await
        }
        Verb::Checkpoint(CheckpointVerb::Verify(args)) => {
            Box::pin(checkpoint_verify::run(global, args)).await
        }
        Verb::Worker(WorkerVerb::Drain(args)) => Box::pin(worker_drain::drain(global, args)).await,
        Verb::Worker(WorkerVerb::Undrain(args)) => {
            Box::pin(worker_drain::undrain(global, args)).await
        }
        Verb::Worker(WorkerVerb::List(args)) => Box::pin(worker_list::run(global, args)).await,
        Verb::Workspace(WorkspaceVerb::List(args)) => Box::pin(workspace::list(global, args)).await,
        Verb::Workspace(WorkspaceVerb::Show(args)) => Box::pin(workspace::show(global, args)).await,
        Verb::Workspace(WorkspaceVerb::Set(args)) => Box::pin(workspace::set(global, args)).await,
        Verb::Workspace(WorkspaceVerb::Remove(args)) => {
            Box::pin(workspace::remove(global, args)).await
        }
        Verb::Completion(args) => completion::run(global, &args),
    }
}
