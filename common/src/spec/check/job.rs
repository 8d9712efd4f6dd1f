//! Fields of the job as a whole.

use super::{Findings, program, scheduler};
use crate::spec::failure::MAX_BACKOFF;
use crate::spec::search::{SchedulerName, SearcherName};
use crate::spec::{EntrypointSpec, JobSpec, SearcherSpec, SecretRef, Variable};

const MAX_NAME: usize = 63;
const MAX_SLOTS: u32 = 1_024;

/// Most configurations to try first and results that are known already: each is looked at when a job is submitted,
/// and again by every coordinator that takes it over. A model looks at a thousand results unless told otherwise.
const MAX_FIRST_POINTS: usize = 1_000;
const MAX_PRIOR_RESULTS: usize = 10_000;

/// A suggestion takes the square of it, a third of a second for so many.
const MAX_GP_POINTS: u32 = 2_000;

/// Most values of a list in a search that learns: of more it learns nothing, and each has a cell of the model's axis.
const MAX_LEARNT_VALUES: usize = 10_000;

/// Most hyperparameters of searchers whose model has a matrix over them, or distances along each.
const MAX_MODELLED: usize = 1_000;

/// Longest that a program may take to end, in seconds: as long as that its slots are nobody's.
const MAX_STOP_GRACE: f64 = 3_600.0;
const STORES: [&str; 5] = ["file", "s3", "gs", "az", "memory"];

pub(super) fn check(spec: &JobSpec, found: &mut Findings) {
    for (path, name) in [("name", &spec.name), ("workspace", &spec.workspace)] {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        found.expect(
            (1..=MAX_NAME).contains(&name.len())
                && name.chars().all(fits)
                && name.starts_with(|c: char| c.is_ascii_alphanumeric()),
            path,
            format!("`{name}`"),
            "letters, digits, `-` and `_`, beginning with a letter or digit, at most 63",
        );
    }
    match (&spec.model, &spec.entrypoint) {
        (None, None) => found.add(
            "model",
            "missing; a job needs either `model` (layers for the built-in trainer) or `entrypoint` (a program)",
        ),
        (Some(_), Some(_)) => found.add(
            "entrypoint",
            "given together with `model`; accepted is one of them",
        ),
        (Some(_), None) if spec.data.is_none() => {
            found.add("data", "missing; a `model` needs samples to learn from");
        }
        _ => {}
    }
    if let Some(entrypoint) = &spec.entrypoint {
        check_entrypoint(entrypoint, found);
    }
    check_searcher(spec, found);
    scheduler::check(spec, found);
    scheduler::check_logical(spec, found);
    check_backoff(spec, found);
    check_resources(spec, found);
}

fn check_entrypoint(entrypoint: &EntrypointSpec, found: &mut Findings) {
    if entrypoint.command.first().is_none_or(String::is_empty) {
        found.add(
            "entrypoint.command",
            "empty; accepted: a list of the program and its arguments",
        );
    }
    program::check_places(entrypoint, found);
    for name in entrypoint.environment.keys() {
        found.expect(
            !name.is_empty() && !name.contains(['=', '\0']) && !name.starts_with("TRAINYARD_"),
            format!("entrypoint.environment.{name}"),
            format!("the name `{name}`"),
            "names without `=` that do not begin with TRAINYARD_, which are set for the program",
        );
    }
    for (name, variable) in &entrypoint.environment {
        if let Variable::Secret(secret) = variable {
            found.expect(
                secret.is_valid(),
                format!("entrypoint.environment.{name}.secret"),
                format!("`{}`", secret.secret),
                SecretRef::ACCEPTED,
            );
        }
    }
    if let Some(first) = entrypoint.first_epoch {
        found.expect(first <= 1, "entrypoint.first_epoch", first, "0 or 1");
    }
    let grace = entrypoint.stop_grace;
    found.expect(
        (0.0..=MAX_STOP_GRACE).contains(&grace),
        "entrypoint.stop_grace",
        grace,
        "seconds from 0 to 3600",
    );
}

fn check_searcher(spec: &JobSpec, found: &mut Findings) {
    let searcher = &spec.searcher;
    match (searcher.name, searcher.max_trials) {
        (name, None) if name != SearcherName::Grid => found.add(
            "searcher.max_trials",
            "missing; only a grid knows its number of trials by itself",
        ),
        (_, Some(0)) => found.add(
            "searcher.max_trials",
            "0 given; accepted: whole numbers from 1",
        ),
        _ => {}
    }
    if let Some(max_time) = searcher.max_time {
        found.expect(
            super::is_positive(max_time),
            "searcher.max_time",
            max_time,
            "seconds, above 0",
        );
    }
    if let Some(limit) = searcher.max_concurrent_trials {
        found.expect(
            limit > 0,
            "searcher.max_concurrent_trials",
            limit,
            "whole numbers from 1",
        );
    }
    let (name, count) = (searcher.name, spec.hyperparameters.0.len());
    if matches!(name, SearcherName::Gp | SearcherName::CmaEs) && count > MAX_MODELLED {
        found.add(
            "searcher.name",
            format!(
                "`{}` given with {count} hyperparameters; accepted with it are at most {MAX_MODELLED}, with `tpe`, `bohb`, \
                 `dehb`, `nsga2`, `random` and `auto` more",
                name.word()
            ),
        );
    }
    check_lists(searcher, found);
    check_values(spec, found);
    if let Some(points) = searcher.gp_max_points {
        found.expect(
            (2..=MAX_GP_POINTS).contains(&points),
            "searcher.gp_max_points",
            points,
            &format!("whole numbers from 2 to {MAX_GP_POINTS}"),
        );
        if !matches!(searcher.name, SearcherName::Gp | SearcherName::Auto) {
            found.add(
                "searcher.gp_max_points",
                format!(
                    "not accepted with `{}`, only with `gp` and `auto`",
                    searcher.name.word()
                ),
            );
        }
    }
    if let Some(limit) = spec.max_failed_trials {
        found.expect(
            limit > 0,
            "max_failed_trials",
            limit,
            "whole numbers from 1",
        );
    }
}

fn check_lists(searcher: &SearcherSpec, found: &mut Findings) {
    for (field, given, most) in [
        (
            "points_to_evaluate",
            searcher.points_to_evaluate.len(),
            MAX_FIRST_POINTS,
        ),
        (
            "prior_results",
            searcher.prior_results.len(),
            MAX_PRIOR_RESULTS,
        ),
    ] {
        found.expect(
            given <= most,
            format!("searcher.{field}"),
            format!("{given} elements"),
            &format!("at most {most}"),
        );
    }
}

/// Grids and draws take any list; whatever computes with places on an axis does not.
fn check_values(spec: &JobSpec, found: &mut Findings) {
    let who = match (
        &spec.searcher.name,
        spec.scheduler.as_ref().map(|of| of.name),
    ) {
        (_, Some(name @ (SchedulerName::Pbt | SchedulerName::Pb2))) => name.word(),
        (
            SearcherName::Grid | SearcherName::Random | SearcherName::Sobol | SearcherName::Halton,
            _,
        ) => return,
        (name, _) => name.word(),
    };
    for (name, parameter) in &spec.hyperparameters.0 {
        let values = parameter.vals.as_ref().map_or(0, Vec::len);
        found.expect(
            values <= MAX_LEARNT_VALUES,
            format!("hyperparameters.{name}.vals"),
            format!("{values} values"),
            &format!("at most {MAX_LEARNT_VALUES} with `{who}`, which learns; `grid` and `random` take more"),
        );
    }
}

fn check_backoff(spec: &JobSpec, found: &mut Findings) {
    found.expect(
        super::is_not_negative(spec.orphan_timeout),
        "orphan_timeout",
        spec.orphan_timeout,
        "seconds, from 0 (when the worker's lease has run out)",
    );
    if let Some(hang_timeout) = spec.hang_timeout {
        found.expect(
            super::is_not_negative(hang_timeout),
            "hang_timeout",
            hang_timeout,
            "seconds, from 0 (never)",
        );
    }
    if let Some(retain) = spec.retain {
        found.expect(
            super::is_not_negative(retain),
            "retain",
            retain,
            "seconds, from 0 (archived as soon as it has ended)",
        );
    }
    let backoff = &spec.retry_backoff;
    found.expect(
        (0.0..=MAX_BACKOFF).contains(&backoff.first),
        "retry_backoff.first",
        backoff.first,
        "seconds from 0 to 86400",
    );
    found.expect(
        (0.0..=MAX_BACKOFF).contains(&backoff.cap) && backoff.cap >= backoff.first,
        "retry_backoff.cap",
        backoff.cap,
        "seconds from `first` to 86400",
    );
}

fn check_resources(spec: &JobSpec, found: &mut Findings) {
    let slots = spec.resources.slots_per_trial;
    found.expect(
        (1..=MAX_SLOTS).contains(&slots),
        "resources.slots_per_trial",
        slots,
        "whole numbers from 1 to 1024",
    );
    let storage = &spec.checkpoint_storage;
    if let Some(url) = &storage.url {
        check_url(url, "checkpoint_storage.url", &STORES, found);
    }
    for (field, value) in [
        ("every_epochs", u64::from(storage.every_epochs)),
        ("every_steps", storage.every_steps.unwrap_or(1)),
        ("keep_last", u64::from(storage.keep_last)),
    ] {
        found.expect(
            value > 0,
            format!("checkpoint_storage.{field}"),
            value,
            "whole numbers from 1",
        );
    }
}

/// Whether a URL's scheme is one of `schemes`.
pub(super) fn check_url(url: &str, path: &str, schemes: &[&str], found: &mut Findings) {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let without_path = |url: url::Url| url.scheme() == "file" && url.to_file_path().is_err();
    if url::Url::parse(url).is_ok_and(without_path) {
        found.add(
            path,
            format!(
                "`{url}` given; accepted is a file URL with three slashes and an absolute path"
            ),
        );
        return;
    }
    if let (true, Err(error)) = (
        scheme.is_some_and(|scheme| schemes.contains(&scheme)),
        url::Url::parse(url),
    ) {
        found.add(path, format!("`{url}` given, which is no URL: {error}"));
        return;
    }
    if scheme.is_none_or(|scheme| !schemes.contains(&scheme)) {
        let near = scheme
            .and_then(|scheme| crate::spec::error::near(scheme, schemes.iter().copied()))
            .map(|near| format!("; did you mean `{near}://`?"))
            .unwrap_or_default();
        found.add(
            path,
            format!(
                "`{url}` given{near}; accepted are URLs that begin with {}://",
                schemes.join("://, ")
            ),
        );
    }
}
