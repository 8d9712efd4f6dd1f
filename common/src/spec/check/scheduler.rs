//! The scheduler: which fields belong to which, and whether they make rungs.

use super::Findings;
use crate::spec::search::SchedulerName;
use crate::spec::{JobSpec, SchedulerSpec};

/// The most that a trial may be given, so that rungs stay few and times fit their numbers.
const MAX_RESOURCE: u64 = 1_000_000_000;
const MAX_ETA: u32 = 1_000;
const MAX_LOGICAL_WORKERS: u32 = 10_000;

pub(super) fn check(spec: &JobSpec, found: &mut Findings) {
    let Some(scheduler) = &spec.scheduler else {
        return;
    };
    match scheduler.name {
        SchedulerName::Fifo => {
            for (field, given) in [
                ("min_resource", scheduler.min_resource.is_some()),
                ("max_resource", scheduler.max_resource.is_some()),
                ("eta", scheduler.eta.is_some()),
            ] {
                if given {
                    found.add(
                        format!("scheduler.{field}"),
                        "not accepted with `fifo`, which runs every trial to its end",
                    );
                }
            }
        }
        SchedulerName::Asha => check_asha(spec, scheduler, found),
    }
}

/// Logical time: what would let real time decide does not go with it.
pub(super) fn check_logical(spec: &JobSpec, found: &mut Findings) {
    match (spec.logical_time, spec.logical_workers) {
        (true, None) => found.add(
            "logical_workers",
            "missing; with `logical_time` the number of trials under way at once is part of the spec",
        ),
        (false, Some(_)) => found.add(
            "logical_workers",
            "not accepted without `logical_time: true`",
        ),
        (_, Some(workers)) => found.expect(
            (1..=MAX_LOGICAL_WORKERS).contains(&workers),
            "logical_workers",
            workers,
            &format!("whole numbers from 1 to {MAX_LOGICAL_WORKERS}"),
        ),
        (false, None) => {}
    }
    let searcher = &spec.searcher;
    for (field, given, instead) in [
        ("max_time", searcher.max_time.is_some(), "`max_trials`"),
        (
            "max_concurrent_trials",
            searcher.max_concurrent_trials.is_some(),
            "`logical_workers`",
        ),
    ] {
        if spec.logical_time && given {
            found.add(
                format!("searcher.{field}"),
                format!("not accepted with `logical_time`; use {instead}"),
            );
        }
    }
}

fn check_asha(spec: &JobSpec, scheduler: &SchedulerSpec, found: &mut Findings) {
    if spec.objectives.is_empty() {
        found.add(
            "objectives",
            "missing; `asha` compares trials by the first objective",
        );
    }
    let eta = scheduler.eta.unwrap_or(SchedulerSpec::ETA);
    found.expect(
        (2..=MAX_ETA).contains(&eta),
        "scheduler.eta",
        eta,
        &format!("whole numbers from 2 to {MAX_ETA}"),
    );
    let epochs = spec
        .model
        .is_some()
        .then(|| u64::from(spec.training.epochs));
    let Some(max) = scheduler.max_resource.or(epochs) else {
        found.add(
            "scheduler.max_resource",
            "missing; for a program it says how many epochs a trial may report at most",
        );
        return;
    };
    let (most, what) = match epochs {
        Some(epochs) => (epochs, "`training.epochs`"),
        None => (MAX_RESOURCE, "the most"),
    };
    found.expect(
        (1..=most).contains(&max),
        "scheduler.max_resource",
        max,
        &format!("epochs from 1 to {most}, {what}"),
    );
    let min = scheduler
        .min_resource
        .unwrap_or(SchedulerSpec::MIN_RESOURCE);
    found.expect(
        (1..=max.max(1)).contains(&min),
        "scheduler.min_resource",
        min,
        &format!("epochs from 1 to {max}, `max_resource`"),
    );
}
