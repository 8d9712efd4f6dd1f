//! What people are told of a job whose objective does not come: which metrics do, and which one may be meant.

use trainyard_common::ids::JobId;
use trainyard_common::spec::error::near;

use crate::cluster::Machine;
use crate::cluster::api::Point;
use crate::cluster::model::{AttemptRecord, AttemptRef, Job};

/// Names of metrics that are listed; more help nobody to find the right one.
const MAX_NAMES: usize = 12;

/// Longest part of a metric's name that is shown, characters.
const MAX_NAME_CHARS: usize = 64;

impl Machine {
    /// A report of a new epoch comes: whether the one before had its result.
    pub(in crate::cluster) fn remark_on_epoch(&mut self, at: &AttemptRef, point: &Point) {
        let known = self.jobs.get(&at.job).filter(|job| job.lacks_a_value());
        let known = known.and_then(|job| job.live(at.trial));
        let newest = known.and_then(|trial| trial.record.reported);
        let passed = newest.is_some_and(|newest| {
            newest.attempt == at.attempt
                && newest.end_of_epoch
                && !newest.whole
                && newest.epoch < point.epoch
        });
        if passed {
            self.remark(at);
        }
    }

    /// An attempt has done what it was to do: whether that gave a result.
    pub(in crate::cluster) fn remark_on_end(&mut self, at: &AttemptRef) {
        let known = self.jobs.get(&at.job).filter(|job| job.lacks_a_value());
        let known = known.and_then(|job| job.live(at.trial));
        let newest = known.map(|trial| trial.record.reported);
        if newest.is_some_and(|newest| newest.is_none_or(|newest| !newest.whole)) {
            self.remark(at);
        }
    }

    fn remark(&mut self, at: &AttemptRef) {
        let told = self.attempt(at).map(|attempt| told(&attempt));
        let Some(found) = self.jobs.get_mut(&at.job) else {
            return;
        };
        let missing = found.missing(at, &told.unwrap_or_default());
        found.record.remark = missing;
        self.draft.jobs.insert(at.job.clone());
    }

    /// A result has come after all.
    pub(in crate::cluster) fn forget_remark(&mut self, job: &JobId) {
        if let Some(found) = self.jobs.get_mut(job)
            && !found.record.remark.is_empty()
        {
            found.record.remark.clear();
            self.draft.jobs.insert(job.clone());
        }
    }
}

impl Job {
    /// Whether no result has come yet, and nobody was told so.
    fn lacks_a_value(&self) -> bool {
        let record = &self.record;
        record.best.is_none() && record.remark.is_empty() && self.objective().is_some()
    }

    /// Which objective is missing among what an attempt has told, and what may be meant by it.
    fn missing(&self, at: &AttemptRef, names: &[String]) -> String {
        let mut objectives = self.document.job().objectives.iter();
        let missing = objectives.find(|objective| !names.contains(&objective.metric));
        let Some(objective) = missing.map(|objective| objective.metric.as_str()) else {
            return String::new();
        };
        let trial = at.trial;
        if names.is_empty() {
            return format!(
                "trial {trial} has reported nothing, and the objective is `{objective}`"
            );
        }
        let meant = meant(objective, names);
        let meant = meant.map_or_else(String::new, |name| {
            format!("; did you mean `{}`?", cut(name))
        });
        let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| cut(name)).collect();
        let more = match names.len().saturating_sub(MAX_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "trial {trial} does not report the objective `{objective}`; it reports `{}`{more}{meant}",
            shown.join("`, `")
        )
    }
}

/// The metrics that an attempt has told at the end of its newest epoch.
fn told(attempt: &AttemptRecord) -> Vec<String> {
    let names = attempt.metrics.iter().map(|(name, _)| name.clone());
    names.collect()
}

/// The metric that is most like the objective: by its letters, or as a part of its name.
fn meant<'a>(objective: &str, names: &'a [String]) -> Option<&'a str> {
    let trimmed = names.iter().find(|name| name.trim() == objective.trim());
    let letters = || near(objective, names.iter().map(String::as_str));
    let part = || {
        let mut names = names.iter();
        names.find(|name| name.contains(objective) || objective.contains(name.as_str()))
    };
    let found = trimmed.map(String::as_str).or_else(letters);
    found.or_else(|| part().map(String::as_str))
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME_CHARS) {
        Some((at, _)) => format!("{}...", &name[..at]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_that_may_be_meant_is_found() {
        let names = |all: &[&str]| -> Vec<String> { all.iter().map(|n| (*n).to_owned()).collect() };
        let cases = [
            ("loss", vec!["acc", "val_loss"], Some("val_loss")),
            ("test_acc_avg", vec!["test_acc_avg "], Some("test_acc_avg ")),
            (
                "val_acuracy",
                vec!["loss", "val_accuracy"],
                Some("val_accuracy"),
            ),
            ("val/acc", vec!["acc"], Some("acc")),
            ("loss", vec!["mae"], None),
        ];
        for (objective, given, expected) in cases {
            assert_eq!(meant(objective, &names(&given)), expected, "{objective}");
        }
    }
}
