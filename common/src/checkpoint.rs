//! What names a checkpoint outside of its store, and the rule that says which are kept.
//!
//! PURE: no store is touched here. Writing, reading and deleting checkpoints is the worker's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::spec::CheckpointStorageSpec;
use crate::spec::search::Mode;

/// A checkpoint whose manifest is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// Object path of the manifest, relative to the job's checkpoint store.
    pub manifest: String,
    /// Optimizer steps taken when it was made.
    pub step: u64,
    /// Complete epochs when it was made.
    pub epoch: u64,
    /// Sum of the sizes of the tensors, or of the files, in it, in bytes.
    pub bytes: u64,
    /// BLAKE3 of the manifest object, hexadecimal.
    pub digest: String,
    /// Metrics that were known at that point.
    #[serde(with = "metric_values")]
    pub metrics: Vec<(String, f64)>,
}

impl CheckpointRef {
    /// The value of a metric, if it was known.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }
}

/// How many checkpoints of a trial are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepPolicy {
    /// Those with the best objective values.
    pub keep_best: u32,
    /// The newest. At least one is kept whatever this says.
    pub keep_last: u32,
}

impl From<&CheckpointStorageSpec> for KeepPolicy {
    fn from(spec: &CheckpointStorageSpec) -> Self {
        Self {
            keep_best: spec.keep_best,
            keep_last: spec.keep_last,
        }
    }
}

/// The manifests among `known` (checkpoints of one trial) that the policy gives up, oldest first.
///
/// One that is among the best or among the newest stays. `objective` is the metric and its mode;
/// a checkpoint without that metric, or with one that is not a number, is never among the best. Of equal values
/// the earlier one is better, as it is for trials. A manifest that is named twice counts once.
pub fn to_drop(
    policy: KeepPolicy,
    known: &[CheckpointRef],
    objective: Option<(&str, Mode)>,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut by_age: Vec<&CheckpointRef> = known
        .iter()
        .filter(|checkpoint| seen.insert(checkpoint.manifest.as_str()))
        .collect();
    by_age.sort_by_key(|checkpoint| {
        let generation = generation_of(&checkpoint.manifest);
        (checkpoint.step, generation, &checkpoint.manifest)
    });

    let last = policy.keep_last.max(1) as usize;
    let mut kept: BTreeSet<&str> = by_age
        .iter()
        .rev()
        .take(last)
        .map(|checkpoint| checkpoint.manifest.as_str())
        .collect();
    if let Some((metric, mode)) = objective {
        kept.extend(best(&by_age, policy.keep_best as usize, metric, mode));
    }
    by_age
        .into_iter()
        .filter(|checkpoint| !kept.contains(checkpoint.manifest.as_str()))
        .map(|checkpoint| checkpoint.manifest.clone())
        .collect()
}

/// The generation that a manifest's name tells (`.../STEP-GENERATION.json`): a number, of which 10 comes
/// after 9.
fn generation_of(manifest: &str) -> Option<u64> {
    let (_, generation) = manifest.strip_suffix(".json")?.rsplit_once('-')?;
    generation.parse().ok()
}

/// The `count` best of checkpoints that are given oldest first.
fn best<'a>(
    by_age: &[&'a CheckpointRef],
    count: usize,
    metric: &str,
    mode: Mode,
) -> impl Iterator<Item = &'a str> {
    let mut judged: Vec<(f64, &str)> = by_age
        .iter()
        .filter_map(|checkpoint| Some((checkpoint.metric(metric)?, checkpoint.manifest.as_str())))
        .filter(|(value, _)| !value.is_nan())
        .collect();
    // A stable sort: of equal values the earlier stays in front.
    judged.sort_by(|(a, _), (b, _)| match mode {
        Mode::Minimize => a.total_cmp(b),
        Mode::Maximize => b.total_cmp(a),
    });
    judged.into_iter().take(count).map(|(_, manifest)| manifest)
}

/// Metrics as `[name, value]` pairs. JSON has no infinities and no NaN: those become words.
pub mod metric_values {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Value {
        Number(f64),
        Word(String),
    }

    pub fn serialize<S: Serializer>(
        metrics: &[(String, f64)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(metrics.iter().map(|(name, value)| {
            let value = if value.is_finite() {
                Value::Number(*value)
            } else {
                Value::Word(value.to_string())
            };
            (name, value)
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, f64)>, D::Error> {
        Vec::<(String, Value)>::deserialize(deserializer)?
            .into_iter()
            .map(|(name, value)| match value {
                Value::Number(number) => Ok((name, number)),
                Value::Word(word) => match word.as_str() {
                    "NaN" => Ok((name, f64::NAN)),
                    "inf" => Ok((name, f64::INFINITY)),
                    "-inf" => Ok((name, f64::NEG_INFINITY)),
                    _ => Err(D::Error::custom(format!(
                        "metric {name}: `{word}` is not a number, NaN, inf or -inf"
                    ))),
                },
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64, value: Option<f64>) -> CheckpointRef {
        CheckpointRef {
            manifest: step.to_string(),
            step,
            epoch: 0,
            bytes: 0,
            digest: String::new(),
            metrics: value
                .map(|value| ("v".to_owned(), value))
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn keep_rule() {
        let nan = Some(f64::NAN);
        type Case<'a> = (u32, u32, Option<Mode>, &'a [Option<f64>], &'a [u64]);
        // (best, last, mode, values of steps 0, 1, 2..., steps given up)
        let cases: &[Case<'_>] = &[
            (1, 1, Some(Mode::Maximize), &[], &[]),
            (1, 1, Some(Mode::Maximize), &[Some(0.5)], &[]),
            (1, 1, Some(Mode::Maximize), &[Some(0.5), Some(0.4)], &[]),
            (1, 1, Some(Mode::Maximize), &[Some(0.4), Some(0.5)], &[0]),
            (
                1,
                1,
                Some(Mode::Minimize),
                &[Some(0.4), Some(0.5), Some(0.6)],
                &[1],
            ),
            // Equal values: the earlier is the best.
            (
                1,
                1,
                Some(Mode::Maximize),
                &[Some(0.5), Some(0.5), Some(0.5)],
                &[1],
            ),
            // Neither an absent metric nor NaN is ever the best.
            (
                1,
                1,
                Some(Mode::Minimize),
                &[None, nan, Some(9.0), None],
                &[0, 1],
            ),
            (1, 1, Some(Mode::Maximize), &[nan, nan, nan], &[0, 1]),
            (2, 2, Some(Mode::Maximize), &[Some(0.1); 5], &[2]),
            (
                2,
                1,
                Some(Mode::Minimize),
                &[Some(3.0), Some(1.0), Some(2.0), Some(5.0)],
                &[0],
            ),
            // Without an objective only age counts; the newest always stays.
            (3, 2, None, &[Some(0.1); 4], &[0, 1]),
            (0, 0, Some(Mode::Maximize), &[Some(0.9), Some(0.1)], &[0]),
        ];
        for (best, last, mode, values, expected) in cases {
            let known: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(step, value)| at(step as u64, *value))
                .collect();
            let policy = KeepPolicy {
                keep_best: *best,
                keep_last: *last,
            };
            let expected: Vec<String> = expected.iter().map(u64::to_string).collect();
            let dropped = to_drop(policy, &known, mode.map(|mode| ("v", mode)));
            assert_eq!(dropped, expected, "{best} {last} {mode:?} {values:?}");
            // Neither order nor repetition matters.
            let shuffled: Vec<_> = known.iter().rev().chain(&known).cloned().collect();
            let dropped = to_drop(policy, &shuffled, mode.map(|mode| ("v", mode)));
            assert_eq!(dropped, expected, "{best} {last} {mode:?} {values:?}");
        }
    }

    #[test]
    fn of_equal_steps_the_later_generation_is_newer() {
        let of = |generation: u64| CheckpointRef {
            manifest: format!("trials/0/000000000005-{generation}.json"),
            ..at(5, None)
        };
        let policy = KeepPolicy {
            keep_best: 0,
            keep_last: 1,
        };
        let dropped = to_drop(policy, &[of(10), of(2), of(9)], None);
        assert_eq!(dropped, [of(2).manifest, of(9).manifest]);
    }

    #[test]
    fn json_keeps_every_metric() {
        let mut reference = at(3, Some(0.1));
        reference.metrics.push(("up".to_owned(), f64::INFINITY));
        reference
            .metrics
            .push(("down".to_owned(), f64::NEG_INFINITY));
        let text = serde_json::to_string(&reference).unwrap();
        assert_eq!(
            serde_json::from_str::<CheckpointRef>(&text).unwrap(),
            reference
        );
        reference.metrics = vec![("nan".to_owned(), f64::NAN)];
        let text = serde_json::to_string(&reference).unwrap();
        let back: CheckpointRef = serde_json::from_str(&text).unwrap();
        assert!(back.metrics[0].1.is_nan());
        let bad = text.replace("NaN", "much");
        let error = serde_json::from_str::<CheckpointRef>(&bad).unwrap_err();
        assert!(error.to_string().contains("`much`"), "{error}");
    }
}
