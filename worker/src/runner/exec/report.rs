//! PURE: what a program's line means.

use serde::Deserialize;
use serde_json::{Map, Value};
use trainyard_proto::MAX_METRIC_NAME_BYTES;
use trainyard_proto::v1::{Metric, Progress};

/// Metrics of one report at most.
const MAX_METRICS: usize = 256;

/// What a line on standard output is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parsed {
    /// And where the checkpoint lies that was made with it.
    Report(Progress, Option<String>),
    /// The program says that its configuration cannot be, and why.
    Infeasible(String),
    /// A log line.
    Text,
    /// Meant as a report, but not usable as one.
    Refused(String),
}

/// What was read so far: steps and epochs that a program does not number are counted.
#[derive(Debug, Default)]
pub(super) struct Reading {
    step: u64,
    epoch: u64,
}

#[derive(Deserialize)]
struct Line {
    metrics: Map<String, Value>,
    step: Option<u64>,
    epoch: Option<u64>,
    checkpoint: Option<String>,
}

impl Reading {
    /// The last step that was reported.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    pub(super) fn line(&mut self, line: &str) -> Parsed {
        let line = line.trim();
        if let Some(why) = infeasible(line) {
            return Parsed::Infeasible(why);
        }
        if !(line.starts_with('{') && line.ends_with('}') && line.contains("\"metrics\"")) {
            return Parsed::Text;
        }
        match self.report(line) {
            Ok((progress, checkpoint)) => Parsed::Report(progress, checkpoint),
            Err(why) => Parsed::Refused(why),
        }
    }

    fn report(&mut self, line: &str) -> Result<(Progress, Option<String>), String> {
        let line: Line = serde_json::from_str(line)
            .map_err(|error| format!("{error} (NaN and Infinity are no JSON numbers)"))?;
        if line.metrics.len() > MAX_METRICS {
            return Err(format!(
                "{} metrics, at most {MAX_METRICS}",
                line.metrics.len()
            ));
        }
        let step = line.step.unwrap_or(self.step + 1);
        if step <= self.step {
            return Err(format!("step {step} does not come after {}", self.step));
        }
        let metrics = line
            .metrics
            .into_iter()
            .map(|(name, value)| match value.as_f64() {
                // The coordinator would refuse it, and everything else that this worker has to tell.
                _ if name.len() > MAX_METRIC_NAME_BYTES || name.contains(char::is_control) => {
                    let name: String = name.chars().take(40).collect();
                    let most = MAX_METRIC_NAME_BYTES;
                    Err(format!(
                        "a metric's name is {name:?}..., at most {most} bytes without control characters are accepted"
                    ))
                }
                Some(value) => Ok(Metric { name, value }),
                None => Err(format!("metrics.{name} is {value}, expected a number")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.step = step;
        self.epoch = line.epoch.unwrap_or(self.epoch + 1);
        let progress = Progress {
            step,
            epoch: self.epoch,
            metrics,
            end_of_epoch: true,
            ..Progress::default()
        };
        Ok((progress, line.checkpoint))
    }
}

/// `{"infeasible": "why"}`.
fn infeasible(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Said {
        infeasible: String,
    }
    let meant = line.starts_with('{') && line.contains("\"infeasible\"");
    let said: Said = meant.then(|| serde_json::from_str(line).ok()).flatten()?;
    Some(said.infeasible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let text = [
            "",
            "plain",
            "{not json",
            "{\"loss\": 1}",
            "metrics",
            "[\"metrics\"]",
        ];
        for line in text {
            assert_eq!(Reading::default().line(line), Parsed::Text, "{line}");
        }
        let refused = [
            (r#"{"metrics": 1}"#, "invalid type"),
            (r#"{"metrics": {"a": "x"}}"#, "metrics.a"),
            (r#"{"metrics": {"a": NaN}}"#, "NaN"),
            (r#"{"metrics": {}, "step": -1}"#, "invalid value"),
            (r#"{"metrics": {}, "step": 0}"#, "does not come after"),
            (r#"{"metrics": {"a\n": 1}}"#, "control characters"),
            (
                &format!(r#"{{"metrics": {{"{}": 1}}}}"#, "n".repeat(257)),
                "at most 256",
            ),
        ];
        for (line, why) in refused {
            match Reading::default().line(line) {
                Parsed::Refused(told) => assert!(told.contains(why), "{line}: {told}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_program_may_say_that_its_configuration_cannot_be() {
        let line = r#" {"infeasible": "kernel 7 is larger than the image"} "#;
        let why = "kernel 7 is larger than the image".to_owned();
        assert_eq!(Reading::default().line(line), Parsed::Infeasible(why));
        for text in [
            r#"{"infeasible": 1}"#,
            r#"{"infeasible": "a", "more": 1}"#,
            "infeasible",
        ] {
            assert_eq!(Reading::default().line(text), Parsed::Text, "{text}");
        }
    }

    #[test]
    fn steps_and_epochs_are_counted_on_from_what_was_given() {
        let mut reading = Reading::default();
        let mut at = |line| match reading.line(line) {
            Parsed::Report(progress, _) => (progress.step, progress.epoch),
            other => panic!("{other:?}"),
        };
        assert_eq!(at(r#"{"metrics": {"loss": 1}}"#), (1, 1));
        assert_eq!(
            at(r#" {"step": 10, "epoch": 3, "metrics": {"loss": 1}} "#),
            (10, 3)
        );
        assert_eq!(at(r#"{"metrics": {"loss": 1}, "more": true}"#), (11, 4));
    }
}
