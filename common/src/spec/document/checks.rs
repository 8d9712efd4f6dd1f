//! What only the space and the job together can say: grids, populations, given configurations, warnings.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::space::SearchSpace;
use crate::spec::error::{Problems, SpecError, SpecErrors, quoted};
use crate::spec::read::MAX_BYTES;
use crate::spec::search::{SchedulerName, SearcherName};
use crate::spec::{EntrypointSpec, JobSpec, SchedulerSpec, check, reference};

/// Most trials of a grid without `max_trials`.
const MAX_GRID: u128 = 1_000_000;

/// The document with everything written out is read again as any other, by a run that goes on for instance.
pub(super) fn check_length(stored: &Value) -> Result<(), SpecErrors> {
    let bytes = stored.to_string().len();
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "with aliases and defaults written out the document has {bytes} bytes; accepted are at most {MAX_BYTES}"
    );
    Err(SpecErrors::one("", message))
}

pub(super) fn check_grid(job: &JobSpec, space: &SearchSpace) -> Result<(), SpecErrors> {
    if job.searcher.name != SearcherName::Grid {
        return Ok(());
    }
    space.grid().map_err(SpecErrors)?;
    let count = space.grid_len();
    if job.searcher.max_trials.is_none() && count.is_none_or(|count| count > MAX_GRID) {
        let count = count.map_or("too many to count".to_owned(), |count| count.to_string());
        return Err(SpecErrors::one(
            "searcher.max_trials",
            format!(
                "missing, and the grid has {count} configurations; without it accepted are at most {MAX_GRID}"
            ),
        ));
    }
    Ok(())
}

/// A member of a population goes on with another's weights: what its network, its data or the course of its
/// steps depends on may not differ. Of a search alone and of a program it is not known.
pub(super) fn check_population(
    root: &Value,
    job: &JobSpec,
    space: &SearchSpace,
) -> Result<(), SpecErrors> {
    let Some(scheduler) = &job.scheduler else {
        return Ok(());
    };
    let is_population = matches!(scheduler.name, SchedulerName::Pbt | SchedulerName::Pb2);
    if !is_population || job.entrypoint.is_some() {
        return Ok(());
    }
    let name = scheduler.name.word();
    let fixed = ["data", "split", "preprocess", "model"].map(|section| &root[section]);
    let course = ["batch_size", "virtual_shards", "loss"].map(|field| &root["training"][field]);
    let mut names = BTreeSet::new();
    for part in fixed.into_iter().chain(course) {
        reference::names(part, &mut names);
    }
    if let Some(optimizer) = root["training"]["optimizer"].as_str() {
        reference::names(&Value::from(optimizer), &mut names);
    }
    let differ = space.parameters().iter().filter(|parameter| {
        names.contains(&parameter.name) && parameter.domain.cardinality() != Some(1)
    });
    let mut errors = Problems::default();
    errors.extend(differ.map(|parameter| {
            SpecError::new(
                format!("hyperparameters.{}", parameter.name),
                format!(
                    "not accepted with `{name}`, whose trials go on with each other's weights: it changes the \
                     network, its data or its batches; accepted are fields of the optimizer and the like"
                ),
            )
        }));
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.into())
    }
}

/// Configurations that the spec itself gives.
pub(super) fn check_given(job: &JobSpec, space: &SearchSpace) -> Result<(), SpecErrors> {
    let searcher = &job.searcher;
    let mut errors = Problems::default();
    let mut refuse = |path: String, error: SpecError| {
        let of = error.path.trim_start_matches("hyperparameters.");
        errors.push(SpecError::new(path, format!("{of}: {}", error.message)));
    };
    for (index, point) in searcher.points_to_evaluate.iter().enumerate() {
        if let Err(error) = space.completed(point) {
            refuse(format!("searcher.points_to_evaluate[{index}]"), error);
        }
    }
    for (index, prior) in searcher.prior_results.iter().enumerate() {
        if let Err(error) = space.contains(&prior.params) {
            refuse(format!("searcher.prior_results[{index}].params"), error);
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.into())
    }
}

/// A program is given its values as arguments and in its environment, where a text ends at a NUL.
pub(super) fn check_values(job: &JobSpec, space: &SearchSpace) -> Result<(), SpecErrors> {
    let mut errors = Problems::default();
    if job.entrypoint.is_none() {
        return Ok(());
    }
    for parameter in space.parameters() {
        let with_nul = parameter.domain.texts().find(|text| text.contains('\0'));
        if let Some(text) = with_nul {
            errors.add(&format!("hyperparameters.{}", parameter.name), || {
                let given = quoted(&format!("{text:?}"));
                format!("{given} given; accepted for a program are values without NUL")
            });
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.into()),
    }
}

/// Fields of a program that are read once for the whole job, before there is a configuration.
const OF_THE_JOB: [&str; 3] = ["ship", "exclude", "bundle"];

/// What is shipped is the same for all trials.
pub(super) fn check_shipped(root: &Value, errors: &mut Problems) {
    for field in OF_THE_JOB {
        if reference::is_below(&root["entrypoint"][field]) {
            errors.add(&format!("entrypoint.{field}"), || {
                "holds a reference; accepted is one value for all trials, which is packed when the job is submitted"
                    .to_owned()
            });
        }
    }
}

pub(super) fn warnings(
    root: &Value,
    job: &JobSpec,
    space: &SearchSpace,
    used: &BTreeSet<String>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for parameter in space.parameters() {
        let name = &parameter.name;
        let decides = space
            .parameters()
            .iter()
            .flat_map(|child| &child.conditions)
            .any(|condition| space.parameters()[condition.parent].name == *name);
        if job.entrypoint.is_none() && !used.contains(name) && !decides {
            warnings.push(format!(
                "hyperparameters.{name}: no ${{{name}}} stands anywhere, so that it changes nothing"
            ));
        }
        if let Some(last) = parameter.domain.unreached_max() {
            warnings.push(format!(
                "hyperparameters.{name}.maxval: no step ends there; the largest value is {last}"
            ));
        }
    }
    warnings.extend(saves_nothing(job));
    warnings.extend(check::few_samples(job));
    let distinct = space.cardinality().filter(|&count| count > 1);
    if let (Some(wanted), Some(distinct)) = (job.searcher.max_trials, distinct)
        && job.searcher.name != SearcherName::Grid
        && wanted < u32::MAX
        && u128::from(wanted) > distinct
    {
        warnings.push(format!(
            "searcher.max_trials: {wanted} given, but there are only {distinct} configurations; the search ends with them"
        ));
    }
    if space.is_constrained() && space.allowed_share().is_none() {
        warnings.push(
            "constraints: next to no configuration meets them, and how many do was not found out in time: draws begin \
             at one that does, and may leave out parts of what is allowed; fewer or shorter constraints, or narrower \
             ranges, would help"
                .to_owned(),
        );
    }
    if job.entrypoint.is_some() && root.get("data").is_some_and(|data| !data.is_null()) {
        warnings.push("data: not used by an `entrypoint`, which reads its own".to_owned());
    }
    warnings.extend(job.entrypoint.as_ref().and_then(other_python));
    warnings
}

/// A scheduler with rungs that has one alone, at which every trial ends.
fn saves_nothing(job: &JobSpec) -> Option<String> {
    let scheduler = job.scheduler.as_ref()?;
    let max = scheduler.max_resource.or(job
        .model
        .is_some()
        .then_some(u64::from(job.training.epochs)))?;
    let min = scheduler
        .min_resource
        .unwrap_or(SchedulerSpec::MIN_RESOURCE);
    let eta = u64::from(scheduler.eta.unwrap_or(SchedulerSpec::ETA));
    let (is_one, least) = match scheduler.name {
        // Its rungs lie at max, max / eta, and so on: the second is the least that may be below.
        SchedulerName::Hyperband => (max / eta.max(1) < min, max / eta.max(1)),
        SchedulerName::Asha | SchedulerName::AsyncHyperband | SchedulerName::Sha => {
            (min >= max, max.saturating_sub(1))
        }
        _ => return None,
    };
    let way_out = match least {
        0 => "more epochs".to_owned(),
        least => format!("`min_resource` of {least} or less, or more epochs"),
    };
    is_one.then(|| {
        let name = scheduler.name.word();
        format!(
            "scheduler: from {min} to {max} epochs `{name}` with `eta` {eta} has one rung alone: every trial runs to its \
             end, and nothing is saved; to stop some of them early it needs {way_out}"
        )
    })
}

/// A program that is started by the path of an interpreter does not run in the environment that was asked for.
fn other_python(entrypoint: &EntrypointSpec) -> Option<String> {
    entrypoint.python.as_ref()?;
    let program = entrypoint.command.first()?;
    let (_, name) = program.rsplit_once('/')?;
    name.starts_with("python").then(|| {
        format!(
            "entrypoint.command: `{program}` is the interpreter at that path, not the one of entrypoint.python, which is \
             `python`"
        )
    })
}
