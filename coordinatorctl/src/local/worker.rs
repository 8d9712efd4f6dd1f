//! A worker in this process, and how many slots it gets.

use std::num::NonZeroUsize;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainyard_common::spec::JobSpec;
use trainyard_worker::agent::{self, WorkerError};
use trainyard_worker::config::WorkerConfig;

use crate::exit::{Failure, Outcome};

/// A running worker; `stop` lets its trials make checkpoints first.
pub(crate) struct LocalWorker {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

impl LocalWorker {
    pub(crate) fn start(coordinator: &str, slots: usize) -> Self {
        let config = WorkerConfig {
            slots,
            threads_per_slot: Some((cores() / slots).max(1)),
            name: Some("local".to_owned()),
            single_process: true,
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

/// Slots of `run`'s worker: those asked for, or one for each core as far as the search can use them.
pub(crate) fn choose_slots(asked: Option<usize>, job: &JobSpec) -> Outcome<usize> {
    slots_on(cores(), asked, job)
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
}
