//! PURE: what the coordinator takes of a report, so that nothing goes on its way that it would refuse.

use trainyard_proto::v1::report::Body;
use trainyard_proto::v1::{CheckpointRef, Metric, Progress};
use trainyard_proto::{MAX_METRIC_NAME_BYTES, MAX_METRICS_PER_REPORT, MAX_NUMBER};

/// Of a name that is too long so much is told, characters.
const TOLD: usize = 40;

/// Numbers that are only shown are at most the largest that the coordinator takes.
pub(super) fn shown(body: Body) -> Body {
    match body {
        Body::Started(mut started) => {
            let numbers = [
                &mut started.from_step,
                &mut started.steps_total,
                &mut started.epochs_total,
                &mut started.parameters,
            ];
            for number in numbers {
                *number = (*number).min(MAX_NUMBER);
            }
            Body::Started(started)
        }
        Body::Ended(mut ended) => {
            ended.step = ended.step.min(MAX_NUMBER);
            Body::Ended(ended)
        }
        other => other,
    }
}

/// Why the coordinator would refuse a report: the field, what it is and what is accepted.
pub(super) fn refusal(body: &Body) -> Option<String> {
    match body {
        Body::Progress(Progress {
            step,
            epoch,
            metrics: told,
            ..
        }) => number("step", *step)
            .or_else(|| number("epoch", *epoch))
            .or_else(|| metrics(told)),
        Body::Checkpoint(saved) => {
            let CheckpointRef {
                step,
                epoch,
                metrics: told,
                ..
            } = saved.checkpoint.as_ref()?;
            number("checkpoint.step", *step)
                .or_else(|| number("checkpoint.epoch", *epoch))
                .or_else(|| metrics(told))
        }
        _ => None,
    }
}

fn number(field: &str, given: u64) -> Option<String> {
    (given > MAX_NUMBER).then(|| format!("{field} is {given}, at most {MAX_NUMBER} is accepted"))
}

fn metrics(told: &[Metric]) -> Option<String> {
    if told.len() > MAX_METRICS_PER_REPORT {
        let (count, most) = (told.len(), MAX_METRICS_PER_REPORT);
        return Some(format!("{count} metrics, at most {most} are accepted"));
    }
    let fits = |metric: &&Metric| {
        metric.name.len() <= MAX_METRIC_NAME_BYTES && !metric.name.contains(char::is_control)
    };
    let refused = told.iter().find(|metric| !fits(metric))?;
    let name: String = refused.name.chars().take(TOLD).collect();
    Some(format!(
        "a metric's name begins with {name:?}, at most {MAX_METRIC_NAME_BYTES} bytes without control characters \
         are accepted"
    ))
}

#[cfg(test)]
mod tests {
    use trainyard_proto::v1::{CheckpointSaved, Started};

    use super::*;

    fn progress(step: u64, epoch: u64, names: &[String]) -> Body {
        let metrics = names.iter().map(|name| Metric {
            name: name.clone(),
            value: 1.0,
        });
        Body::Progress(Progress {
            step,
            epoch,
            metrics: metrics.collect(),
            ..Progress::default()
        })
    }

    #[test]
    fn what_would_be_refused_is_named() {
        let most = vec!["m".repeat(MAX_METRIC_NAME_BYTES); MAX_METRICS_PER_REPORT];
        assert_eq!(refusal(&progress(MAX_NUMBER, MAX_NUMBER, &most)), None);
        let cases = [
            (
                progress(MAX_NUMBER + 1, 1, &[]),
                "step is 9007199254740993, at most 9007199254740992",
            ),
            (progress(1, u64::MAX, &[]), "epoch is 18446744073709551615"),
            (
                progress(1, 1, &["m".repeat(MAX_METRIC_NAME_BYTES + 1)]),
                "name begins with \"mmm",
            ),
            (
                progress(1, 1, &["a\u{85}b".to_owned()]),
                "control characters",
            ),
            (
                progress(1, 1, &vec![String::new(); MAX_METRICS_PER_REPORT + 1]),
                "513 metrics",
            ),
        ];
        for (body, expected) in cases {
            let told = refusal(&body).unwrap_or_default();
            assert!(told.contains(expected), "{told}");
        }
        let checkpoint = Some(CheckpointRef {
            epoch: MAX_NUMBER + 1,
            ..CheckpointRef::default()
        });
        let saved = Body::Checkpoint(CheckpointSaved { checkpoint });
        assert!(refusal(&saved).is_some_and(|told| told.starts_with("checkpoint.epoch")));
    }

    #[test]
    fn what_is_only_shown_is_bounded() {
        let started = Body::Started(Started {
            from_step: 3,
            steps_total: u64::MAX,
            epochs_total: MAX_NUMBER + 1,
            parameters: 0,
        });
        let Body::Started(shown) = shown(started) else {
            panic!("another body");
        };
        assert_eq!((shown.from_step, shown.steps_total), (3, MAX_NUMBER));
        assert_eq!(shown.epochs_total, MAX_NUMBER);
    }
}
