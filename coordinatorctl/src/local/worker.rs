//! A worker in this process, and which slots it gets.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainyard_common::spec::{Device, JobSpec};
use trainyard_worker::agent::{self, WorkerError};
use trainyard_worker::config::{self, GpuChoice, VariablePattern, WorkerConfig};
use trainyard_worker::devices::{self, Gpu};

use crate::exit::{Failure, Outcome};

/// What `run`'s worker trains on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slots {
    /// So many shares of the processor.
    Shares(usize),
    Gpus(Vec<Gpu>),
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Shares(count) => *count,
            Self::Gpus(gpus) => gpus.len(),
        }
    }
}

/// What programs get of this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs {
    /// What they see of this process's environment; unset, all of it.
    pub(crate) passed: Option<Vec<VariablePattern>>,
    /// The folder of their secrets; absolute.
    pub(crate) secrets: Option<PathBuf>,
}

/// A running worker; `stop` lets its trials make checkpoints first.
pub(crate) struct LocalWorker {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

impl LocalWorker {
    pub(crate) fn start(coordinator: &str, slots: &Slots, programs: Programs) -> Self {
        let (shares, gpus) = match slots {
            Slots::Shares(count) => (*count, GpuChoice::None),
            Slots::Gpus(gpus) => {
                let uuids = gpus.iter().map(|gpu| gpu.uuid.clone());
                (0, GpuChoice::These(uuids.collect()))
            }
        };
        let config = WorkerConfig {
            slots: shares,
            gpus,
            threads_per_slot: Some((cores() / slots.len().max(1)).max(1)),
            name: Some("local".to_owned()),
            single_process: true,
            // Whoever runs this may start the program by hand as well.
            programs: config::Programs::Allow,
            // They are to do what they do by hand: with a virtual environment, a proxy, keys of services.
            pass_environment: programs
                .passed
                .unwrap_or_else(|| vec![VariablePattern::all()]),
            secrets_dir: programs.secrets,
            ..WorkerConfig::for_coordinator(coordinator)
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(Box::pin(agent::run(config, shutdown.clone())));
        Self { shutdown, task }
    }

    /// Resolves when the worker has ended by itself, with the reason.
    pub(crate) async fn failed(&mut self) -> Failure {
        match told((&mut self.task).await) {
            Ok(()) => Failure::failed("the worker ended by itself"),
            Err(failure) => failure,
        }
    }

    /// Running trials make a checkpoint, the last reports are handed over.
    pub(crate) async fn stop(self) -> Outcome {
        self.shutdown.cancel();
        told(self.task.await)
    }
}

fn told(ended: Result<Result<(), WorkerError>, tokio::task::JoinError>) -> Outcome {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::failed(format!("the worker failed: {error}"))),
        Err(error) => Err(Failure::failed(format!("the worker failed: {error}"))),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Slots of `run`'s worker: those asked for, or one for each core or GPU as far as the search can use
/// them.
pub(crate) fn choose_slots(asked: Option<usize>, job: &JobSpec) -> Outcome<Slots> {
    match job.resources.device {
        Device::Cpu => Ok(Slots::Shares(slots_on(cores(), asked, job)?)),
        Device::Cuda => {
            let found = devices::gpus(&GpuChoice::All);
            let found = found.map_err(|error| Failure::usage(error.to_string()))?;
            Ok(Slots::Gpus(gpus_of(found, asked, job)?))
        }
    }
}

/// Each GPU is one slot: there are no more than there are.
fn gpus_of(mut found: Vec<Gpu>, asked: Option<usize>, job: &JobSpec) -> Outcome<Vec<Gpu>> {
    let needed = asked.unwrap_or(job.resources.slots_per_trial.max(1) as usize);
    if found.len() < needed {
        let (field, given) = match asked {
            Some(slots) => ("--slots", slots.to_string()),
            None => (
                "resources",
                format!("device: cuda, slots_per_trial: {needed}"),
            ),
        };
        let here = found.len();
        return Err(Failure::usage(format!(
            "{field} {given}: this machine has {here} GPUs that can be used"
        )));
    }
    found.truncate(slots_on(found.len(), asked, job)?);
    Ok(found)
}

fn slots_on(cores: usize, asked: Option<usize>, job: &JobSpec) -> Outcome<usize> {
    let each = job.resources.slots_per_trial.max(1) as usize;
    if let Some(slots) = asked {
        if slots < each {
            return Err(Failure::usage(format!(
                "--slots {slots}: one trial takes {each} slots (resources.slots_per_trial)"
            )));
        }
        return Ok(slots);
    }
    let fit = (cores / each).max(1);
    let wanted = [job.searcher.max_concurrent_trials, job.searcher.max_trials];
    let most = wanted
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u32::MAX)
        .max(1);
    Ok(fit.min(most as usize) * each)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(each: u32, concurrent: Option<u32>, trials: Option<u32>) -> JobSpec {
        let mut job: JobSpec = serde_json::from_value(serde_json::json!({"name": "j"})).unwrap();
        job.resources.slots_per_trial = each;
        job.searcher.max_concurrent_trials = concurrent;
        job.searcher.max_trials = trials;
        job
    }

    #[test]
    fn slots_follow_cores_and_what_the_search_can_use() {
        let cases = [
            // cores, slots per trial, concurrent, trials, slots
            (8, 1, None, Some(100), 8),
            (8, 1, Some(3), Some(100), 3),
            (8, 1, None, Some(2), 2),
            (8, 3, None, Some(100), 6),
            (2, 4, None, Some(100), 4),
            (1, 1, None, None, 1),
        ];
        for (cores, each, concurrent, trials, expected) in cases {
            let job = job(each, concurrent, trials);
            assert_eq!(slots_on(cores, None, &job), Ok(expected), "{cores} {each}");
        }
        assert_eq!(slots_on(2, Some(5), &job(1, None, None)), Ok(5));
        let refused = slots_on(8, Some(1), &job(2, None, None)).unwrap_err();
        assert!(refused.message.contains("slots_per_trial"), "{refused}");
    }

    #[test]
    fn a_gpu_is_one_slot() {
        let gpus = |count| {
            let gpu = |number| Gpu {
                uuid: format!("GPU-{number}"),
                model: "test".to_owned(),
            };
            (0..count).map(gpu).collect::<Vec<_>>()
        };
        let cases = [
            // GPUs, asked, slots per trial, trials, slots
            (4, None, 1, Some(100), Ok(4)),
            (4, None, 1, Some(3), Ok(3)),
            (4, None, 3, Some(100), Ok(3)),
            (4, Some(2), 1, None, Ok(2)),
            (
                4,
                Some(5),
                1,
                None,
                Err("--slots 5: this machine has 4 GPUs"),
            ),
            (
                0,
                None,
                1,
                None,
                Err("resources device: cuda, slots_per_trial: 1: this machine has 0"),
            ),
            (
                4,
                Some(1),
                2,
                None,
                Err("--slots 1: one trial takes 2 slots"),
            ),
        ];
        for (count, asked, each, trials, expected) in cases {
            let chosen = gpus_of(gpus(count), asked, &job(each, None, trials));
            match (chosen, expected) {
                (Ok(chosen), Ok(slots)) => assert_eq!(chosen.len(), slots),
                (Err(failure), Err(text)) => {
                    assert!(failure.message.starts_with(text), "{failure}");
                }
                (chosen, expected) => panic!("{chosen:?}, not {expected:?}"),
            }
        }
    }
}
