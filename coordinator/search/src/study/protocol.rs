//! Ask and tell in JSON: one object a line, one answer a line. What `coordinatorctl ask-tell` speaks.
//!
//! | request | answer |
//! |---|---|
//! | `{"ask":{}}` | `{"trial":0,"params":{...},"from":0,"until":27}`, `{"wait":true}` or `{"done":true}` |
//! | `{"report":{"trial":0,"resource":9,"value":1.2}}` | `{"trial":0,"decision":"continue"}`, or `pause`, `stop` |
//! | `{"tell":{"trial":0,"value":1.2}}` | `{"ok":true}` |
//! | `{"tell":{"trial":0,"state":"failed"}}` | `{"ok":true}` |
//!
//! With several objectives `values` holds each by its metric. A line that does not fit is answered with
//! `{"error":"..."}` and changes nothing.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use trainyard_common::ids::TrialId;

use super::{Ask, Decision, Study, StudyError};
use crate::search::Outcome;

/// Longest line, in bytes.
const MAX_LINE: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Ask(Nothing),
    Report(Report),
    Tell(Tell),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    #[serde(deserialize_with = "trial")]
    trial: u32,
    #[serde(deserialize_with = "resource")]
    resource: u64,
    #[serde(default, deserialize_with = "given")]
    value: Option<Value>,
    #[serde(default)]
    values: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tell {
    #[serde(deserialize_with = "trial")]
    trial: u32,
    #[serde(default, deserialize_with = "given")]
    value: Option<Value>,
    #[serde(default)]
    values: Option<Map<String, Value>>,
    #[serde(default)]
    state: Option<Told>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Failed,
    Infeasible,
    Nan,
    Preempted,
}

fn trial<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let given = Value::deserialize(deserializer)?;
    let number = whole(&given).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| refused("trial", &given, "the number of a trial that was asked for"))
}

fn resource<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let given = Value::deserialize(deserializer)?;
    whole(&given).ok_or_else(|| refused("resource", &given, "whole numbers from 1"))
}

/// A whole number, written with or without a decimal point.
fn whole(value: &Value) -> Option<u64> {
    let whole = |x: &f64| (0.0..9e15).contains(x) && libm::trunc(*x) == *x;
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(whole).map(|x| x as u64))
}

fn refused<E: serde::de::Error>(field: &str, given: &Value, accepted: &str) -> E {
    E::custom(format!("{field}: {given} given; accepted: {accepted}"))
}

/// A value that is there, be it null.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Carries out one line and answers it.
pub fn answer(study: &mut Study, line: &str) -> Value {
    carry_out(study, line).unwrap_or_else(|error| json!({ "error": error }))
}

fn carry_out(study: &mut Study, line: &str) -> Result<Value, String> {
    if line.len() > MAX_LINE {
        return Err(format!(
            "the line has {} bytes; accepted are at most {MAX_LINE}",
            line.len()
        ));
    }
    let request: Request = serde_json::from_str(line).map_err(|error| {
        if line.contains("NaN") || line.contains("Infinity") {
            return "NaN and Infinity are no JSON; accepted for what is no number: `null`, or the state `nan`"
                .to_owned();
        }
        format!("{error}; accepted are {{\"ask\":{{}}}}, {{\"report\":{{...}}}} and {{\"tell\":{{...}}}}")
    })?;
    let refused = |error: StudyError| error.to_string();
    match request {
        Request::Ask(Nothing {}) => Ok(asked(study.ask())),
        Request::Report(report) => {
            let values = values(study, report.value, report.values)?;
            let trial = TrialId(report.trial);
            let decision = study
                .report(trial, report.resource, &values)
                .map_err(refused)?;
            let word = match decision {
                Decision::Continue => "continue",
                Decision::Pause => "pause",
                Decision::Stop => "stop",
            };
            Ok(json!({ "trial": report.trial, "decision": word }))
        }
        Request::Tell(tell) => told(study, tell).map(|()| json!({ "ok": true })),
    }
}

fn told(study: &mut Study, tell: Tell) -> Result<(), String> {
    let trial = TrialId(tell.trial);
    let outcome = match tell.state {
        None => {
            let values = values(study, tell.value, tell.values)?;
            return study
                .tell(trial, &values)
                .map_err(|error| error.to_string());
        }
        Some(_) if tell.value.is_some() || tell.values.is_some() => {
            return Err("state: given together with a value; accepted is one of them".to_owned());
        }
        Some(Told::Preempted) => {
            return study.preempt(trial).map_err(|error| error.to_string());
        }
        Some(Told::Failed) => Outcome::Failed,
        Some(Told::Infeasible) => Outcome::Infeasible,
        Some(Told::Nan) => Outcome::Nan,
    };
    study
        .fail(trial, outcome)
        .map_err(|error| error.to_string())
}

fn asked(ask: Ask) -> Value {
    let stretch = match ask {
        Ask::Wait => return json!({ "wait": true }),
        Ask::Done => return json!({ "done": true }),
        Ask::Train(stretch) => stretch,
    };
    let mut answer = json!({
        "trial": stretch.trial.0,
        "params": stretch.params,
        "from": stretch.from,
        "until": stretch.until,
    });
    if let Some(source) = stretch.clone {
        answer["clone"] = json!({ "trial": source.trial.0, "resource": source.resource });
    }
    answer
}

/// A value for each objective, in their order; `null` is no number.
fn values(
    study: &Study,
    value: Option<Value>,
    values: Option<Map<String, Value>>,
) -> Result<Vec<Option<f64>>, String> {
    let metrics: Vec<&str> = study
        .objectives()
        .iter()
        .map(|o| o.metric.as_str())
        .collect();
    let number = |path: &str, value: &Value| match value {
        Value::Null => Ok(None),
        value => value
            .as_f64()
            .map(Some)
            .ok_or_else(|| format!("{path}: {value} given; accepted are numbers")),
    };
    match (value, values) {
        (Some(_), Some(_)) => {
            Err("value: given together with `values`; accepted is one of them".to_owned())
        }
        (Some(value), None) if metrics.len() <= 1 => Ok(vec![number("value", &value)?]),
        (Some(_), None) => Err(format!(
            "value: given, but there are {} objectives; accepted: `values` with {}",
            metrics.len(),
            metrics.join(", ")
        )),
        (None, None) => Err("value: missing; accepted: a number, or a `state`".to_owned()),
        (None, Some(given)) => {
            if let Some(name) = given.keys().find(|name| !metrics.contains(&name.as_str())) {
                return Err(format!(
                    "values.{name}: no objective; accepted are {}",
                    metrics.join(", ")
                ));
            }
            let each = metrics.iter().map(|metric| match given.get(*metric) {
                Some(value) => number(&format!("values.{metric}"), value),
                None => Err(format!("values.{metric}: missing")),
            });
            each.collect()
        }
    }
}
