//! Samples: sources, shape, split, scaling.

use std::collections::BTreeSet;

use super::{Findings, is_share, job::check_url};
use crate::network::shape::is_sample_shape;
use crate::spec::data::{ColumnRef, CsvSpec, SourceSpec, Task};
use crate::spec::{DataSpec, JobSpec};

const MAX_SHARD: usize = 1_048_576;
const MAX_PREFETCH: usize = 64;
const MAX_CLASSES: usize = 1_000_000;
pub(super) const SOURCES: [&str; 7] = ["file", "s3", "gs", "az", "http", "https", "memory"];

pub(super) fn check(data: &DataSpec, spec: &JobSpec, found: &mut Findings) {
    check_source(&data.train, "data.train", data.task, found);
    if let Some(test) = &data.test {
        check_source(test, "data.test", data.task, found);
    }
    if let Some(shape) = &data.shape {
        found.expect(
            is_sample_shape(shape),
            "data.shape",
            format!("{shape:?}"),
            "[features], [steps, features], [channels, height, width] or [channels, depth, height, width], all from 1",
        );
    }
    if let Some(dimensions) = dimensions(data)
        && let Err(message) = spec.preprocess.check_dimensions(dimensions)
    {
        found.add("preprocess.per", message);
    }
    if let Some(classes) = data.classes {
        found.expect(
            data.task == Task::Classification,
            "data.classes",
            format!("{classes} with `task: regression`"),
            "`classes` with `task: classification`",
        );
        found.expect(
            (2..=MAX_CLASSES).contains(&classes),
            "data.classes",
            classes,
            "whole numbers from 2 to 1000000",
        );
    }
    found.expect(
        (1..=MAX_SHARD).contains(&data.shard_samples),
        "data.shard_samples",
        data.shard_samples,
        "whole numbers from 1 to 1048576",
    );
    found.expect(
        (1..=MAX_PREFETCH).contains(&data.prefetch_batches),
        "data.prefetch_batches",
        data.prefetch_batches,
        "whole numbers from 1 to 64",
    );
}

/// Of a sample, where the document tells them: a row is flat unless its shape is given.
fn dimensions(data: &DataSpec) -> Option<usize> {
    match (&data.shape, &data.train) {
        (Some(shape), _) => Some(shape.len()),
        (None, SourceSpec::Csv(_)) => Some(1),
        (None, SourceSpec::Idx(_)) => None,
    }
}

fn check_source(source: &SourceSpec, path: &str, task: Task, found: &mut Findings) {
    match source {
        SourceSpec::Csv(csv) => check_csv(csv, &format!("{path}.csv"), task, found),
        SourceSpec::Idx(idx) => {
            check_url(
                &idx.features,
                &format!("{path}.idx.features"),
                &SOURCES,
                found,
            );
            check_url(&idx.labels, &format!("{path}.idx.labels"), &SOURCES, found);
        }
    }
}

fn check_csv(csv: &CsvSpec, path: &str, task: Task, found: &mut Findings) {
    check_url(&csv.url, &format!("{path}.url"), &SOURCES, found);
    found.expect(
        csv.delimiter.len() == 1 && !csv.delimiter.contains(['"', '\n', '\r']),
        format!("{path}.delimiter"),
        format!("`{}`", csv.delimiter.escape_default()),
        "one ASCII character, such as `,` or `;`",
    );
    let targets = &csv.targets;
    let accepted = match task {
        Task::Classification => "a list of the one column that holds the class",
        Task::Regression => "a list of at least one column",
    };
    found.expect(
        !targets.is_empty() && (task == Task::Regression || targets.len() == 1),
        format!("{path}.targets"),
        format!("a list of {}", targets.len()),
        accepted,
    );
    let judged: BTreeSet<&ColumnRef> = targets.iter().collect();
    for (field, columns) in [("targets", targets), ("ignore", &csv.ignore)] {
        let mut seen = BTreeSet::new();
        for (i, column) in columns.iter().enumerate() {
            let path = format!("{path}.{field}[{i}]");
            if !seen.insert(column) {
                found.add(&path, "the column is in the list already");
            }
            if let (ColumnRef::Name(name), false) = (column, csv.header) {
                found.add(
                    &path,
                    format!("the name `{name}` with `header: false`; accepted are numbers of columns, from 0"),
                );
            }
            if field == "ignore" && judged.contains(column) {
                found.add(&path, "the column is a target");
            }
        }
    }
}

pub(super) fn check_split(spec: &JobSpec, found: &mut Findings) {
    let split = &spec.split;
    for (path, share) in [
        ("split.validation", split.validation),
        ("split.test", split.test),
    ] {
        found.expect(is_share(share), path, share, "numbers from 0, below 1");
    }
    let sum = split.validation + split.test;
    if is_share(split.validation) && is_share(split.test) && sum >= 1.0 {
        found.add(
            "split",
            format!(
                "validation {} and test {} are {sum} together, so that nothing is left for training; accepted are sums below 1",
                split.validation, split.test
            ),
        );
    }
    let Some(data) = &spec.data else { return };
    if data.test.is_some() && split.test != 0.0 {
        found.add(
            "split.test",
            format!(
                "{} given, but `data.test` gives the test part; accepted: 0",
                split.test
            ),
        );
    }
    found.expect(
        !split.stratify || data.task == Task::Classification,
        "split.stratify",
        "true with `task: regression`",
        "true with `task: classification`, which has classes to balance",
    );
}
