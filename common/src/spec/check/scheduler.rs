//! The scheduler: which fields belong to which, and whether they make rungs, periods or a population.

use super::{Findings, is_not_negative, is_positive};
use crate::spec::search::SchedulerName::{
    self, Asha, AsyncHyperband, Auto, EarlyStopping, Fifo, Hyperband, MedianStopping, Pb2, Pbt, Sha,
};
use crate::spec::{JobSpec, SchedulerSpec};

/// The most that a trial may be given, so that rungs stay few and times fit their numbers.
const MAX_RESOURCE: u64 = 1_000_000_000;
const MAX_ETA: u32 = 1_000;
const MAX_LOGICAL_WORKERS: u32 = 10_000;

/// Trials of a bracket, or that are compared.
const MAX_TRIALS: u32 = 1_000_000;

/// Every ranking looks at all members.
const MAX_POPULATION: u32 = 1_000;
const MAX_FACTORS: usize = 100;

pub(super) fn check(spec: &JobSpec, found: &mut Findings) {
    let Some(scheduler) = &spec.scheduler else {
        return;
    };
    refuse_foreign(scheduler, found);
    if scheduler.name == Fifo {
        return;
    }
    if spec.objectives.is_empty() {
        let name = scheduler.name.word();
        found.add(
            "objectives",
            format!("missing; `{name}` compares trials by the first objective"),
        );
    }
    let eta = scheduler.eta.unwrap_or(SchedulerSpec::ETA);
    found.expect(
        (2..=MAX_ETA).contains(&eta),
        "scheduler.eta",
        eta,
        &format!("whole numbers from 2 to {MAX_ETA}"),
    );
    let max = max_resource(spec, scheduler, found);
    match scheduler.name {
        Fifo => {}
        Auto | Asha | AsyncHyperband | Sha | Hyperband => check_rungs(scheduler, max, found),
        MedianStopping | EarlyStopping => check_stopping(scheduler, max, found),
        Pbt | Pb2 => check_population(spec, scheduler, max, found),
    }
}

/// Each field that some schedulers do not have, whether it was given, and who has it.
fn fields(scheduler: &SchedulerSpec) -> Vec<(&'static str, bool, &'static [SchedulerName])> {
    const RUNGS: &[SchedulerName] = &[Auto, Asha, AsyncHyperband, Sha, Hyperband];
    const STOPPING: &[SchedulerName] = &[MedianStopping, EarlyStopping];
    const POPULATION: &[SchedulerName] = &[Pbt, Pb2];
    const ALL: &[SchedulerName] = &[
        Auto,
        Asha,
        AsyncHyperband,
        Sha,
        Hyperband,
        MedianStopping,
        EarlyStopping,
        Pbt,
        Pb2,
    ];
    let SchedulerSpec {
        name: _,
        min_resource,
        max_resource,
        eta,
        variant,
        brackets,
        bracket_trials,
        bracket_rounding,
        interval,
        grace_period,
        min_trials,
        threshold,
        patience,
        min_delta,
        population,
        quantile,
        perturb_factors,
        resample_probability,
        synchronous,
        inherit,
    } = scheduler;
    vec![
        ("min_resource", min_resource.is_some(), RUNGS),
        ("max_resource", max_resource.is_some(), ALL),
        ("eta", eta.is_some(), RUNGS),
        ("variant", variant.is_some(), &[Asha, AsyncHyperband]),
        ("brackets", brackets.is_some(), &[Asha, AsyncHyperband]),
        ("bracket_trials", bracket_trials.is_some(), &[Sha]),
        ("bracket_rounding", bracket_rounding.is_some(), &[Hyperband]),
        (
            "interval",
            interval.is_some(),
            &[MedianStopping, EarlyStopping, Pbt, Pb2],
        ),
        ("grace_period", grace_period.is_some(), STOPPING),
        ("min_trials", min_trials.is_some(), &[MedianStopping]),
        ("threshold", threshold.is_some(), &[EarlyStopping]),
        ("patience", patience.is_some(), &[EarlyStopping]),
        ("min_delta", min_delta.is_some(), &[EarlyStopping]),
        ("population", population.is_some(), POPULATION),
        ("quantile", quantile.is_some(), POPULATION),
        ("perturb_factors", perturb_factors.is_some(), POPULATION),
        (
            "resample_probability",
            resample_probability.is_some(),
            POPULATION,
        ),
        ("synchronous", synchronous.is_some(), POPULATION),
        ("inherit", inherit.is_some(), POPULATION),
    ]
}

fn refuse_foreign(scheduler: &SchedulerSpec, found: &mut Findings) {
    let (name, fields) = (scheduler.name, fields(scheduler));
    let words: Vec<&str> = fields
        .iter()
        .filter(|(.., owners)| owners.contains(&name))
        .map(|(field, ..)| *field)
        .collect();
    let instead = match name {
        Fifo => "which runs every trial to its end".to_owned(),
        _ => format!("which has the fields {}", words.join(", ")),
    };
    for (field, given, owners) in &fields {
        if *given && !owners.contains(&name) {
            found.add(
                format!("scheduler.{field}"),
                format!("not accepted with `{}`, {instead}", name.word()),
            );
        }
    }
}

/// The epochs of a whole trial; `None`, where a trial ends by itself or that was an error.
fn max_resource(spec: &JobSpec, scheduler: &SchedulerSpec, found: &mut Findings) -> Option<u64> {
    let built_in = spec.model.is_some();
    let epochs = built_in.then(|| u64::from(spec.training.epochs));
    let Some(max) = scheduler.max_resource.or(epochs) else {
        if !matches!(scheduler.name, MedianStopping | EarlyStopping) {
            found.add(
                "scheduler.max_resource",
                "missing; for a program it says how many epochs a trial may report at most",
            );
        }
        return None;
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
    Some(max)
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

fn check_rungs(scheduler: &SchedulerSpec, max: Option<u64>, found: &mut Findings) {
    let Some(max) = max else {
        return;
    };
    let min = scheduler
        .min_resource
        .unwrap_or(SchedulerSpec::MIN_RESOURCE);
    found.expect(
        (1..=max.max(1)).contains(&min),
        "scheduler.min_resource",
        min,
        &format!("epochs from 1 to {max}, `max_resource`"),
    );
    // Rungs above the first one.
    let eta = u64::from(scheduler.eta.unwrap_or(SchedulerSpec::ETA).max(2));
    let lies_below = |steps: &u32| min.max(1).saturating_mul(eta.saturating_pow(*steps)) < max;
    let above = (0..u64::BITS).take_while(lies_below).count() as u32;
    if let Some(brackets) = scheduler.brackets {
        found.expect(
            (1..=above + 1).contains(&brackets),
            "scheduler.brackets",
            brackets,
            &format!("whole numbers from 1 to {}, the number of rungs", above + 1),
        );
    }
    let least = eta.saturating_pow(above);
    match scheduler.bracket_trials {
        Some(trials) => found.expect(
            (least..=u64::from(MAX_TRIALS).max(least)).contains(&u64::from(trials)),
            "scheduler.bracket_trials",
            trials,
            &format!(
                "whole numbers from {least}, so that one is left at the last rung, to {}",
                u64::from(MAX_TRIALS).max(least)
            ),
        ),
        None if scheduler.name == Sha => found.expect(
            least <= u64::from(u32::MAX),
            "scheduler.min_resource",
            min,
            &format!(
                "epochs that are fewer `eta`-fold steps below {max}; with these a bracket has {least} trials"
            ),
        ),
        None => {}
    }
}

/// `interval`, within a whole trial.
fn check_interval(scheduler: &SchedulerSpec, max: Option<u64>, found: &mut Findings) {
    let most = max.unwrap_or(MAX_RESOURCE);
    for (field, given) in [
        ("interval", scheduler.interval),
        ("grace_period", scheduler.grace_period),
    ] {
        if let Some(epochs) = given {
            found.expect(
                (1..=most).contains(&epochs),
                format!("scheduler.{field}"),
                epochs,
                &format!("epochs from 1 to {most}"),
            );
        }
    }
}

fn check_stopping(scheduler: &SchedulerSpec, max: Option<u64>, found: &mut Findings) {
    check_interval(scheduler, max, found);
    for (field, given) in [
        ("min_trials", scheduler.min_trials),
        ("patience", scheduler.patience),
    ] {
        if let Some(count) = given {
            found.expect(
                (1..=MAX_TRIALS).contains(&count),
                format!("scheduler.{field}"),
                count,
                &format!("whole numbers from 1 to {MAX_TRIALS}"),
            );
        }
    }
    if let Some(threshold) = scheduler.threshold {
        found.expect(
            threshold.is_finite(),
            "scheduler.threshold",
            threshold,
            "a finite number",
        );
    }
    if let Some(delta) = scheduler.min_delta {
        found.expect(
            is_not_negative(delta),
            "scheduler.min_delta",
            delta,
            "numbers from 0",
        );
        if scheduler.name == EarlyStopping && scheduler.patience.is_none() {
            found.add("scheduler.min_delta", "not accepted without `patience`");
        }
    }
    if scheduler.name == EarlyStopping
        && scheduler.threshold.is_none()
        && scheduler.patience.is_none()
    {
        found.add(
            "scheduler.patience",
            "missing; `early_stopping` needs `patience`, `threshold` or both",
        );
    }
}

fn check_population(
    spec: &JobSpec,
    scheduler: &SchedulerSpec,
    max: Option<u64>,
    found: &mut Findings,
) {
    check_interval(scheduler, max, found);
    let trials = spec.searcher.max_trials;
    if let Some(members) = scheduler.population.or(trials) {
        let (most, what) = match trials {
            Some(trials) if trials < MAX_POPULATION => (trials, ", `searcher.max_trials`"),
            _ => (MAX_POPULATION, ""),
        };
        let (field, accepted) = match scheduler.population {
            Some(_) => ("scheduler.population", format!("2 to {most} members{what}")),
            None => (
                "searcher.max_trials",
                format!("2 to {MAX_POPULATION}, the members of the population"),
            ),
        };
        let fits = (2..=most.max(2)).contains(&members);
        found.expect(fits, field, members, &accepted);
    }
    if let Some(quantile) = scheduler.quantile {
        let fits = quantile > 0.0 && quantile <= 0.5;
        found.expect(
            fits,
            "scheduler.quantile",
            quantile,
            "numbers above 0, at most 0.5",
        );
    }
    if let Some(probability) = scheduler.resample_probability {
        let fits = (0.0..=1.0).contains(&probability);
        let field = "scheduler.resample_probability";
        found.expect(fits, field, probability, "numbers from 0 to 1");
    }
    if let Some(factors) = &scheduler.perturb_factors {
        found.expect(
            (1..=MAX_FACTORS).contains(&factors.len()),
            "scheduler.perturb_factors",
            format!("{} factors", factors.len()),
            &format!("1 to {MAX_FACTORS} numbers"),
        );
        for (index, factor) in factors.iter().enumerate() {
            let field = format!("scheduler.perturb_factors[{index}]");
            found.expect(is_positive(*factor), field, factor, "numbers above 0");
        }
    }
}
