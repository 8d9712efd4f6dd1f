//! Joining small objects. Pure: reading and writing them is the store's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::super::Series;
use super::format::{Content, Meta, Packed, Packer};

/// Objects that are joined at one time.
pub(in super::super) const MAX_INPUTS: usize = 64;

/// The items of `inputs` that still count (`lowest` and above, of a series that exists), each series
/// in one piece, the series of a job one after the other.
///
/// # Errors
/// An item that an input's key names is not in it.
pub(in super::super) fn compact(
    inputs: &[(Arc<Meta>, Arc<Content>)],
    lowest: impl Fn(&Series) -> u64,
) -> Result<Vec<Packed>, String> {
    let mut pieces = BTreeSet::new();
    for (number, (meta, _)) in inputs.iter().enumerate() {
        for run in &meta.runs {
            let Series { kind, job, trial } = &run.series;
            // By job first.
            pieces.insert((job, trial, kind, run.first, run.end(), number));
        }
    }
    let mut packer = Packer::default();
    for (job, trial, kind, first, end, number) in pieces {
        let series = Series {
            kind: *kind,
            job: job.clone(),
            trial: *trial,
        };
        for sequence in first.max(lowest(&series))..end {
            let item = inputs[number].1.item(&series, sequence);
            let item = item.ok_or_else(|| format!("item {sequence} of {series} is missing"))?;
            packer.push(&series, sequence, item);
        }
    }
    Ok(packer.finish())
}

#[cfg(test)]
mod tests {
    use trainyard_common::ids::{JobId, TrialId};

    use super::super::super::super::SeriesKind;
    use super::*;

    #[test]
    fn small_objects_become_one_by_job_without_what_was_dropped() {
        let series = |job: &str| Series {
            kind: SeriesKind::Points,
            job: JobId::from(job),
            trial: TrialId(1),
        };
        let inputs: Vec<_> = (1..=5)
            .map(|sequence| {
                let mut packer = Packer::default();
                for job in ["b", "a"] {
                    let value = format!("{job}{sequence}");
                    packer.push(&series(job), sequence, value.as_bytes());
                }
                let packed = packer.finish().remove(0);
                let content = Content::parse(packed.object.clone()).unwrap();
                (Arc::new(packed.meta), Arc::new(content))
            })
            .collect();
        let joined = compact(
            &inputs,
            |series| {
                if series.job.as_str() == "a" { 3 } else { 1 }
            },
        );
        let [joined] = &joined.unwrap()[..] else {
            panic!("they fit one object");
        };
        let runs: Vec<_> = joined
            .meta
            .runs
            .iter()
            .map(|run| (run.series.job.as_str(), run.first, run.count))
            .collect();
        assert_eq!(runs, [("a", 3, 3), ("b", 1, 5)]);
        let content = Content::parse(joined.object.clone()).unwrap();
        assert_eq!(content.item(&series("b"), 2), Some(b"b2".as_slice()));
        assert_eq!(content.item(&series("a"), 2), None);
    }
}
