//! `run`: a whole job on this machine. A coordinator and a worker live in this process and talk
//! through the same services as on a cluster; what they know is kept in the data directory.

use std::path::{Path, PathBuf};

use trainyard_common::spec::Document;
use trainyard_proto::v1;
use trainyard_worker::config::VariablePattern;

use crate::connect::{Client, Watch};
use crate::exit::{Code, Failure, Outcome};
use crate::local::{
    self, DEFAULT_DATA_DIR, Interrupt, LocalCoordinator, LocalWorker, Plan, StartError, Wanted,
};
use crate::options::{Format, Global};
use crate::print;
use crate::ship;
use crate::spec::file::SpecArgs;
use crate::spec::warm::{self, WarmArgs};
use crate::verbs::job::result;
use crate::view::convert::job_ended;
use crate::view::live::{Display, To};
use crate::view::output::JobResult;
use crate::view::tables;
use crate::view::text;

/// Jobs of the data directory that are looked at.
const MOST_JOBS: u32 = 1_000;

/// Train a job on this machine, from the spec to the judged model
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    warm: WarmArgs,
    /// Trials that train at once (times the slots of each). Unset: as many as there are CPU threads (GPUs,
    /// for `device: cuda`) and the search can use
    #[arg(long, value_name = "N", value_parser = slots)]
    slots: Option<usize>,
    /// What programs of an `entrypoint` see of this environment beside PATH, HOME and the like: names, or `PREFIX_*`,
    /// separated by commas. Unset: all of it
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pass_environment: Option<Vec<VariablePattern>>,
    /// A folder of files whose texts programs may have as secrets
    #[arg(long, value_name = "DIR")]
    secrets_dir: Option<PathBuf>,
    /// Go on with the unfinished job of this spec, after Ctrl-C or a crash
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Cancel what is unfinished in the data directory and begin anew
    #[arg(long)]
    fresh: bool,
}

/// Slots of one worker: more than any machine has.
const MOST_SLOTS: usize = 1_024;

fn slots(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|slots| (1..=MOST_SLOTS).contains(slots))
        .ok_or_else(|| format!("expected a whole number from 1 to {MOST_SLOTS}"))
}

/// The folder of secrets as an absolute path.
fn secrets(folder: &Path) -> Outcome<PathBuf> {
    std::path::absolute(folder)
        .map_err(|error| Failure::usage(format!("--secrets-dir {}: {error}", folder.display())))
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let earlier = Global {
        data_dir: Some(
            global
                .data_dir
                .clone()
                .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR)),
        ),
        ..global.clone()
    };
    let document = Box::pin(warm::load(&earlier, &args.spec, &args.warm)).await?;
    let slots = local::choose_slots(args.slots, document.job())?;
    let programs = local::Programs {
        passed: args.pass_environment,
        secrets: args.secrets_dir.as_deref().map(secrets).transpose()?,
    };
    let shown = global
        .data_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
    let data_dir = local::absolute(&shown)?;
    let wanted = Wanted {
        name: &document.job().name,
        resume: args.resume,
        fresh: args.fresh,
        data_dir: &shown.display().to_string(),
    };
    if args.resume && !local::has_state(&data_dir) {
        local::plan(wanted, &[])?;
    }
    let interrupt = Interrupt::listen()?;
    let coordinator = start(&data_dir).await?;
    let begun = begin(coordinator.client(), &document, wanted).await;
    let begun = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            coordinator.stop().await?;
            return Err(failure);
        }
    };
    let house = House {
        coordinator,
        interrupt,
        slots,
        programs,
        shown,
    };
    let result = match begun {
        Begun::Ended(job_id) => house.show(&job_id).await?,
        Begun::Running(job_id) => house.train(&job_id).await?,
    };
    report(global, &result)?;
    result::verdict(&result)
}

async fn start(data_dir: &Path) -> Outcome<LocalCoordinator> {
    match LocalCoordinator::start(data_dir).await {
        Ok(coordinator) => Ok(coordinator),
        Err(StartError::InUse { .. }) => Err(local::in_use(data_dir)),
        Err(StartError::Failed(failure)) => Err(failure),
    }
}

enum Begun {
    Running(String),
    Ended(String),
}

/// Submits, or finds the job to go on with.
async fn begin(client: &Client, document: &Document, wanted: Wanted<'_>) -> Outcome<Begun> {
    let jobs = client.jobs("", MOST_JOBS, false).await?;
    match local::plan(wanted, &jobs)? {
        Plan::GoOn(job_id) => {
            same_spec(client, &job_id, document).await?;
            let (job, _) = client.job(&job_id).await?;
            if job.state() == v1::JobState::Paused {
                client.resume(&job_id, None, false).await?;
            }
            print::remark(&format!("going on with {job_id}"));
            Ok(Begun::Running(job_id))
        }
        Plan::Show(job_id) => {
            same_spec(client, &job_id, document).await?;
            print::remark(&format!("{job_id} has ended already"));
            Ok(Begun::Ended(job_id))
        }
        Plan::Submit { cancel } => {
            for job_id in &cancel {
                client.cancel(job_id).await?;
                print::remark(&format!("cancelled {job_id}"));
            }
            let answer = ship::submit(client, document).await?;
            for warning in &answer.warnings {
                if !document.warnings().contains(warning) {
                    print::remark(&format!("warning: {warning}"));
                }
            }
            Ok(Begun::Running(answer.job_id))
        }
    }
}

/// A job goes on as it was begun: another spec is another job.
async fn same_spec(client: &Client, job_id: &str, document: &Document) -> Outcome {
    let (_, stored) = client.job(job_id).await?;
    let mut stored: serde_json::Value = serde_json::from_str(&stored)
        .map_err(|error| Failure::failed(format!("the stored spec of {job_id}: {error}")))?;
    ship::keep_bundle(&mut stored, document);
    // As the coordinator read it when it was submitted.
    let now = Document::parse(&document.to_json().to_string())
        .map_err(|errors| Failure::usage(errors.to_string()))?;
    let changes = local::changes(&stored, &now.to_json());
    if changes.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the spec (with --set and --limit) has changed since {job_id} was begun: {}; take the \
         changes back to go on, or begin anew with --fresh",
        changes.join(", ")
    )))
}

/// What lives in this process while a job trains.
struct House {
    coordinator: LocalCoordinator,
    interrupt: Interrupt,
    slots: local::Slots,
    programs: local::Programs,
    /// The data directory as the person calls it.
    shown: PathBuf,
}

/// How watching ended.
enum Ended {
    Job,
    Interrupted,
    /// The coordinator ended by itself; it cannot be stopped any more.
    Coordinator(Failure),
    /// The same of the worker.
    Worker(Failure),
}

impl House {
    async fn show(self, job_id: &str) -> Outcome<JobResult> {
        let result = result::fetch(self.coordinator.client(), job_id).await;
        self.coordinator.stop().await?;
        result
    }

    async fn train(mut self, job_id: &str) -> Outcome<JobResult> {
        let client = self.coordinator.client().clone();
        let mut worker = LocalWorker::start(client.address(), &self.slots, self.programs.clone());
        let mut watch = Watch::open(&client, job_id).await?;
        let mut display = Display::new(To::Remarks);
        display.remark(&format!(
            "training {job_id} on {} slots, state in {}",
            self.slots.len(),
            self.shown.display()
        ));
        let ended = tokio::select! {
            ended = follow(&mut watch, &mut display) => ended.map(|()| Ended::Job),
            () = self.interrupt.next() => Ok(Ended::Interrupted),
            failure = self.coordinator.failed() => Ok(Ended::Coordinator(failure)),
            failure = worker.failed() => Ok(Ended::Worker(failure)),
        };
        drop(watch);
        display.finish();
        match ended {
            Ok(Ended::Job) => {
                let result = result::fetch(&client, job_id).await;
                drop(client);
                worker.stop().await?;
                self.coordinator.stop().await?;
                result
            }
            Ok(Ended::Interrupted) => {
                drop(client);
                Err(self.leave(worker).await)
            }
            Ok(Ended::Coordinator(failure)) => Err(failure),
            Ok(Ended::Worker(failure)) => {
                self.coordinator.stop().await?;
                Err(failure)
            }
            Err(failure) => {
                worker.stop().await?;
                self.coordinator.stop().await?;
                Err(failure)
            }
        }
    }

    /// Lets running trials make their checkpoints; a second signal leaves at once.
    async fn leave(self, worker: LocalWorker) -> Failure {
        print::remark("interrupted: making checkpoints (Ctrl-C again leaves at once)");
        self.interrupt.leave_at_next();
        if let Err(failure) = worker.stop().await {
            print::remark(&format!("warning: {failure}"));
        }
        if let Err(failure) = self.coordinator.stop().await {
            print::remark(&format!("warning: {failure}"));
        }
        print::remark(&format!("go on with: {}", go_on(std::env::args())));
        Failure::quiet(Code::Interrupted)
    }
}

async fn follow(watch: &mut Watch, display: &mut Display) -> Outcome {
    while let Some(event) = watch.next().await? {
        display.apply(event)?;
        if display.job().is_some_and(|job| job_ended(job.state())) {
            break;
        }
    }
    Ok(())
}

/// The same command line with `--resume`.
fn go_on(arguments: impl Iterator<Item = String>) -> String {
    arguments
        .filter(|argument| argument != "--fresh" && argument != "--resume")
        .chain(std::iter::once("--resume".to_owned()))
        .map(|argument| text::shell_word(&argument))
        .collect::<Vec<_>>()
        .join(" ")
}

fn report(global: &Global, result: &JobResult) -> Outcome {
    match global.output {
        Format::Json => print::json(result),
        Format::Text => {
            print::line(&tables::result(result))?;
            if result
                .best
                .as_ref()
                .is_some_and(|best| best.checkpoint.is_some())
            {
                let shown = global.data_dir.as_deref();
                let shown = shown.unwrap_or(Path::new(DEFAULT_DATA_DIR)).display();
                print::line(&format!(
                    "download it:         coordinatorctl checkpoint download {} --data-dir {}",
                    result.job.job_id,
                    text::shell_word(&shown.to_string())
                ))?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_is_the_same_command_with_resume() {
        let line = |words: &[&str]| go_on(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(
            line(&[
                "coordinatorctl",
                "run",
                "a b.yaml",
                "--fresh",
                "--set",
                "x=[1]"
            ]),
            "coordinatorctl run 'a b.yaml' --set 'x=[1]' --resume"
        );
        assert_eq!(line(&["c", "run", "j", "--resume"]), "c run j --resume");
    }
}
