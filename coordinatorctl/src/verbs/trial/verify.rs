//! `trial verify`: a trial's checkpoints read whole, and stretches between them trained once more.
//!
//! Training is a function of spec, seed and data to the bit, so that a stored checkpoint is a claim that
//! can be checked: by training from the one before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trainyard_common::ids::TrialId;
use trainyard_common::network::WeightsSpec;
use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1;
use trainyard_worker::checkpoint::{CheckpointRef, CheckpointStore, Snapshot};
use trainyard_worker::collective::cpu_kind;
use trainyard_worker::data::{self, Dataset, Limits};
use trainyard_worker::train;
use trainyard_worker::weights::{self, Weights};

use super::stretches::{self, Stretch};
use crate::exit::{Code, Failure, Outcome};
use crate::options::{Format, Global, TrialArgs};
use crate::print;
use crate::session;
use crate::verbs::checkpoint::verify::{self as checkpoint, store_failure};
use crate::verbs::search::searched;
use crate::view::output::{ReplayedStretch, TrialVerified};
use crate::view::tables;

/// The stack of the thread that trains, as a worker's attempts have it.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Check a trial's checkpoints, and train again what lies between them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
    /// Train up to so many steps between stored checkpoints once more, on this machine, newest first, and
    /// compare every bit
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    replay: Option<u64>,
}

/// What a coordinator knows of the trial.
struct Known {
    spec: String,
    trial: v1::TrialSummary,
    checkpoint_url: String,
    checkpoints: Vec<v1::CheckpointRef>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let known = session::with(&global.endpoint(), async |session| {
        let client = &session.client;
        let (_, spec) = client.job(&args.of.job).await?;
        let (trial, _) = client.trial(&args.of.job, args.of.trial).await?;
        let answer = client
            .checkpoints(&args.of.job, Some(args.of.trial))
            .await?;
        let checkpoints = answer.checkpoints.into_iter();
        Ok(Known {
            spec,
            trial,
            checkpoint_url: answer.checkpoint_url,
            checkpoints: checkpoints.filter_map(|entry| entry.checkpoint).collect(),
        })
    })
    .await?;
    let store =
        CheckpointStore::open(&known.checkpoint_url).map_err(|error| store_failure(&error))?;
    let mut verified = TrialVerified {
        job_id: args.of.job.clone(),
        trial_id: args.of.trial,
        processor: cpu_kind(),
        checkpoints: Vec::new(),
        replayed: Vec::new(),
    };
    // By step, the newest attempt's where several have one of the same.
    let mut whole = BTreeMap::new();
    for entry in &known.checkpoints {
        let found = checkpoint::verify(&store, args.of.trial, entry).await?;
        if found.whole {
            whole.insert(found.step, checkpoint::reference(entry));
        }
        verified.checkpoints.push(found);
    }
    let mut refused = Ok(());
    if let Some(steps) = args.replay {
        match replay(&args, &known, &store, &whole, steps).await {
            Ok(replayed) => verified.replayed = replayed,
            // What was found before is told all the same.
            Err(failure) => refused = Err(failure),
        }
    }
    match global.output {
        Format::Text => print::line(&tables::trial_verified(&verified))?,
        Format::Json => print::json(&verified)?,
    }
    judge(&verified)?;
    refused
}

/// What the findings mean for the exit code.
fn judge(verified: &TrialVerified) -> Outcome {
    let broken = verified.checkpoints.iter().any(|found| !found.whole);
    let differ = verified
        .replayed
        .iter()
        .any(|found| found.same == Some(false));
    let untold = verified.replayed.iter().all(|found| found.same.is_none());
    if broken || differ {
        return Err(Failure::quiet(Code::Failed));
    }
    if untold && !verified.replayed.is_empty() {
        return Err(Failure::usage(format!(
            "nothing could be compared: this machine's processor is of the kind {}, on which other bits are \
             no fault; ask on a machine of the kind that trained it",
            verified.processor
        )));
    }
    Ok(())
}

async fn replay(
    args: &Args,
    known: &Known,
    store: &CheckpointStore,
    whole: &BTreeMap<u64, CheckpointRef>,
    steps: u64,
) -> Outcome<Vec<ReplayedStretch>> {
    let spec = trial_spec(args, known)?;
    let stored: Vec<u64> = whole.keys().copied().collect();
    let chosen = stretches::choose(&stored, since(&known.trial), steps).map_err(|why| {
        let TrialArgs { job, trial } = &args.of;
        Failure::usage(format!("--replay {steps}: trial {trial} of {job}: {why}"))
    })?;
    let dataset = data::load_shared(&spec.job, Limits::of_machine(1), &CancellationToken::new())
        .await
        .map_err(|error| Failure::failed(format!("the data cannot be read here: {error}")))?;
    let spec = Arc::new(spec);
    let mut replayed = Vec::new();
    for stretch in chosen {
        let load = async |step: u64| match whole.get(&step) {
            Some(reference) => store.load_ref(reference).await.map(Some),
            None => Ok(None),
        };
        let from = load(stretch.from)
            .await
            .map_err(|error| store_failure(&error))?;
        let to = load(stretch.to)
            .await
            .map_err(|error| store_failure(&error))?;
        let Some(to) = to else { continue };
        let weights = match (&from, weights_of(&spec)) {
            (None, Some(weights)) => Some(read_weights(weights).await?),
            _ => None,
        };
        let ends = (from, weights, to);
        replayed.push(replay_one(&spec, &dataset, stretch, ends).await?);
    }
    Ok(replayed)
}

/// What the network begins with.
fn weights_of(spec: &TrialSpec) -> Option<&WeightsSpec> {
    spec.job.model.as_ref()?.weights.as_ref()
}

async fn read_weights(spec: &WeightsSpec) -> Outcome<Weights> {
    weights::load(spec, Limits::of_machine(1), &CancellationToken::new())
        .await
        .map_err(|error| Failure::failed(format!("the weights cannot be read here: {error}")))
}

async fn replay_one(
    spec: &Arc<TrialSpec>,
    dataset: &Arc<Dataset>,
    stretch: Stretch,
    (from, weights, to): (Option<Snapshot>, Option<Weights>, Snapshot),
) -> Outcome<ReplayedStretch> {
    let trained_on = train::trained_on(&to);
    let kinds = stretches::processors(stretch, &trained_on);
    let own = cpu_kind();
    let mut found = ReplayedStretch {
        from_step: stretch.from,
        to_step: stretch.to,
        processors: kinds.iter().map(|kind| kind.map(str::to_owned)).collect(),
        same: None,
        values: None,
        difference: None,
    };
    if kinds.iter().flatten().any(|kind| *kind != own) {
        return Ok(found);
    }
    let Stretch {
        from: begin,
        to: end,
    } = stretch;
    print::remark(&format!("training steps {begin} to {end} once more"));
    let (spec, dataset) = (Arc::clone(spec), Arc::clone(dataset));
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("replay".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let stretch = train::Stretch {
                from,
                weights: weights.as_ref(),
                to: &to,
            };
            // Nobody waits any more where the program is ending.
            drop(done.send(train::replay(&spec, dataset, stretch)));
        })
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    let replayed = result
        .await
        .map_err(|_| Failure::failed("the trainer panicked"))?
        .map_err(|error| Failure::failed(error.to_string()))?;
    found.same = Some(replayed.difference.is_none());
    found.values = Some(replayed.values);
    found.difference = replayed.difference.map(Into::into);
    Ok(found)
}

/// The trial as its worker got it.
fn trial_spec(args: &Args, known: &Known) -> Outcome<TrialSpec> {
    let document = searched::document(&args.of.job, &known.spec)?;
    if document.job().entrypoint.is_some() {
        return Err(Failure::usage(format!(
            "--replay: {} trains by a program of its own; only what the built-in trainer trains is the same \
             to the bit",
            args.of.job
        )));
    }
    let params = serde_json::from_str(&known.trial.params_json)
        .map_err(|error| searched::unreadable(&args.of.job, "the configuration", &error))?;
    document
        .trial(TrialId(args.of.trial), &params, &known.checkpoint_url)
        .map_err(|errors| searched::unreadable(&args.of.job, "the configuration", &errors))
}

/// The step since which the trial has been trained as its spec says now, from its own weights.
fn since(trial: &v1::TrialSummary) -> u64 {
    let begins = |attempt: Option<&v1::Attempt>| attempt.map_or(0, |attempt| attempt.from_step);
    if trial.suggested_params_json.is_empty() {
        // Above 0 where it began as a copy.
        begins(trial.attempts.first())
    } else {
        begins(trial.attempts.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::output::Verified;
    use crate::view::output::verified::Different;

    fn verified(whole: bool, same: &[Option<bool>]) -> TrialVerified {
        let stretch = |same: &Option<bool>| ReplayedStretch {
            from_step: 0,
            to_step: 6,
            processors: vec![Some("x86_64/avx2+fma".to_owned())],
            same: *same,
            values: Some(10),
            difference: (*same == Some(false)).then(|| Different {
                place: "model/0.dense.kernel[3]".to_owned(),
                stored: "1 (3f800000)".to_owned(),
                replayed: "1.0000001 (3f800001)".to_owned(),
                values: 4,
            }),
        };
        TrialVerified {
            job_id: "j-1".to_owned(),
            trial_id: 2,
            processor: "x86_64/avx512f".to_owned(),
            checkpoints: vec![Verified {
                trial_id: 2,
                manifest: "trials/2/000000000006-1.json".to_owned(),
                step: 6,
                tensors: 4,
                files: None,
                whole,
                error: (!whole).then(|| "its digest is another".to_owned()),
            }],
            replayed: same.iter().map(stretch).collect(),
        }
    }

    #[test]
    fn the_exit_code_tells_what_was_found() {
        let code = |whole, same: &[Option<bool>]| {
            judge(&verified(whole, same)).map_err(|failure| failure.code)
        };
        assert_eq!(code(true, &[]), Ok(()));
        assert_eq!(code(true, &[Some(true), None]), Ok(()));
        assert_eq!(code(false, &[Some(true)]), Err(Code::Failed));
        assert_eq!(code(true, &[Some(true), Some(false)]), Err(Code::Failed));
        assert_eq!(code(true, &[None]), Err(Code::Usage));
    }

    #[test]
    fn a_difference_and_another_processor_are_explained() {
        let text = tables::trial_verified(&verified(true, &[Some(true), Some(false), None]));
        for expected in [
            "trials/2/000000000006-1.json: whole",
            "steps 0 to 6: the same, 10 values",
            "DIFFERENT: model/0.dense.kernel[3] is 1 (3f800000) in the checkpoint",
            "1.0000001 (3f800001) here; 4 of 10 values differ",
            "x86_64/avx2+fma",
            "not compared",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn what_another_trial_gave_is_not_trained_again() {
        let attempt = |from_step| v1::Attempt {
            from_step,
            ..Default::default()
        };
        let mut trial = v1::TrialSummary {
            attempts: vec![attempt(0), attempt(40)],
            ..Default::default()
        };
        assert_eq!(since(&trial), 0);
        trial.suggested_params_json = "{}".to_owned();
        assert_eq!(since(&trial), 40);
        trial.suggested_params_json.clear();
        trial.attempts[0].from_step = 20;
        assert_eq!(since(&trial), 20);
    }
}
