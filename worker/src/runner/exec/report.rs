//! PURE: what a program's line means.

use serde_json::Value;

use super::loose;
use super::said::{Said, quoted};
use crate::attempt::Mask;

/// The field that makes an object a report.
const METRICS: &str = "metrics";

/// What a line on standard output is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parsed {
    Report(Said),
    /// The program says that its configuration cannot be, and why.
    Infeasible(String),
    /// A log line.
    Text,
    /// Meant as a report, but not usable as one.
    Miss(Miss, String),
}

/// How a line misses being a report. Each kind is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    /// A field of it is wrong.
    Refused,
    /// As Python prints a dictionary.
    SingleQuotes,
    /// It is right, with something behind it.
    Trailing,
    /// It begins as one and is no JSON.
    NoJson,
    /// An object of numbers without `"metrics"`.
    Bare,
}

/// What a line is.
pub(super) fn line(line: &str, mask: &Mask) -> Parsed {
    let line = line.trim();
    if let Some(why) = infeasible(line) {
        return Parsed::Infeasible(why);
    }
    if line.contains("\"metrics\"") {
        return match loose::object_at_end(line, METRICS) {
            Some(fields) => match Said::read(&fields, mask) {
                Ok(said) => Parsed::Report(said),
                Err(why) => Parsed::Miss(Miss::Refused, why),
            },
            None => no_report(line),
        };
    }
    if line.contains("'metrics'") && line.contains('{') && line.ends_with('}') {
        return miss(
            Miss::SingleQuotes,
            "JSON has double quotes: print json.dumps(...) instead of the dictionary",
        );
    }
    match bare(line, mask) {
        Some(name) => Parsed::Miss(
            Miss::Bare,
            format!(
                "a report has its numbers in \"metrics\": {{\"metrics\": {{\"{name}\": ...}}}}"
            ),
        ),
        None => Parsed::Text,
    }
}

fn miss(kind: Miss, why: &str) -> Parsed {
    Parsed::Miss(kind, why.to_owned())
}

/// A line with `"metrics"` that does not end with a report.
fn no_report(line: &str) -> Parsed {
    if loose::object_within(line, METRICS) {
        return miss(
            Miss::Trailing,
            "nothing may stand behind the object of a report in its line",
        );
    }
    // Text may speak of metrics; one that has them as a key is meant as a report.
    let key = line.split("\"metrics\"").nth(1).unwrap_or_default();
    let is_key = key.trim_start().starts_with(':');
    match line.find('{').filter(|_| is_key) {
        Some(at) => {
            let error = loose::value(&line[at..]).err();
            let why = error.map_or_else(
                || "it is not the object at the end of the line".to_owned(),
                |error| error.to_string(),
            );
            Parsed::Miss(Miss::NoJson, format!("it is no JSON: {why}"))
        }
        None => Parsed::Text,
    }
}

/// The first name of a line that is an object of numbers alone.
fn bare(line: &str, mask: &Mask) -> Option<String> {
    if !(line.starts_with('{') && line.ends_with('}')) {
        return None;
    }
    let Ok(Value::Object(fields)) = loose::value(line) else {
        return None;
    };
    let counts = |name: &str| matches!(name, "epoch" | "step");
    let numbers = |value: &Value| value.is_number() || loose::number(value).is_some();
    let name = fields.keys().find(|name| !counts(name))?;
    fields.values().all(numbers).then(|| quoted(name, mask))
}

/// `{"infeasible": "why"}`.
fn infeasible(line: &str) -> Option<String> {
    if !(line.starts_with('{') && line.contains("\"infeasible\"")) {
        return None;
    }
    match serde_json::from_str(line).ok()? {
        Value::Object(said) if said.len() == 1 => match said.get("infeasible") {
            Some(Value::String(why)) => Some(why.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Parsed {
        super::line(text, &Mask::none())
    }

    #[test]
    fn text_is_text() {
        let text = [
            "",
            "plain",
            "{not json",
            "metrics",
            "[\"metrics\"]",
            "the \"metrics\" are {good}",
            r#"{"loss": 1, "name": "x"}"#,
            r#"{"epoch": 3}"#,
            r#"got {"loss": 1}"#,
            "{}",
            "'metrics' are in {}, said he",
        ];
        for text in text {
            assert_eq!(line(text), Parsed::Text, "{text}");
        }
    }

    #[test]
    fn a_report_is_found_at_the_end_of_its_line() {
        let reports = [
            r#"{"metrics": {"loss": 0.5}}"#,
            r#"  {"metrics": {"loss": 0.5}}  "#,
            r#"epoch 1: {"metrics": {"loss": 0.5}}"#,
            r#"50%|#####     | 5/10 [00:01<00:01] {"metrics": {"loss": 0.5}}"#,
            r#"{x} "metrics": {"metrics": {"loss": 0.5}}"#,
        ];
        for report in reports {
            match line(report) {
                Parsed::Report(said) => assert_eq!(said.metrics, [("loss".to_owned(), 0.5)]),
                other => panic!("{report}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_was_meant_as_a_report_is_told_with_the_way_out() {
        let table = [
            (
                "{'metrics': {'loss': 0.5}}",
                Miss::SingleQuotes,
                "json.dumps",
            ),
            (
                "epoch 3 {'epoch': 3, 'metrics': {'loss': 0.5}}",
                Miss::SingleQuotes,
                "json.dumps",
            ),
            (
                r#"{"metrics": {"loss": 0.3}} # done"#,
                Miss::Trailing,
                "behind",
            ),
            (
                r#"{"loss": 0.4}"#,
                Miss::Bare,
                r#"{"metrics": {"loss": ...}}"#,
            ),
            (
                r#"{"epoch": 1, "loss": NaN}"#,
                Miss::Bare,
                r#"{"metrics": {"loss""#,
            ),
            (
                r#"{"metrics": {"loss": 0.3,}}"#,
                Miss::NoJson,
                "no JSON: trailing comma",
            ),
            (
                r#"{"metrics": {"loss": tensor(0.3)}}"#,
                Miss::NoJson,
                "no JSON",
            ),
            (r#"{"metrics": {"loss": 0.3}"#, Miss::NoJson, "no JSON: EOF"),
            (
                r#"{"metrics": {"a": "x"}}"#,
                Miss::Refused,
                "metrics.a is \"x\"",
            ),
            (
                r#"{"metrics": {}, "step": -1}"#,
                Miss::Refused,
                "step is -1",
            ),
        ];
        for (text, kind, why) in table {
            match line(text) {
                Parsed::Miss(told, words) => {
                    assert_eq!(told, kind, "{text}: {words}");
                    assert!(words.contains(why), "{text}: {words}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_program_may_say_that_its_configuration_cannot_be() {
        let said = r#" {"infeasible": "kernel 7 is larger than the image"} "#;
        let why = "kernel 7 is larger than the image".to_owned();
        assert_eq!(line(said), Parsed::Infeasible(why));
        for text in [
            r#"{"infeasible": "a", "more": 1}"#,
            r#"{"infeasible": [1]}"#,
            "infeasible",
        ] {
            assert_eq!(line(text), Parsed::Text, "{text}");
        }
    }

    #[test]
    fn what_is_hidden_is_hidden_before_it_is_cut() {
        let mask = Mask::of(["0123456789abcdef0123456789abcdef"]);
        for before in 0..42 {
            let name = format!("{}0123456789abcdef0123456789abcdef", "n".repeat(before));
            for text in [
                format!("{{\"{name}\": 0.5}}"),
                format!("{{\"metrics\": {{\"a\": \"{name}\"}}}}"),
            ] {
                match super::line(&text, &mask) {
                    Parsed::Miss(_, why) => assert!(!why.contains('0'), "{before}: {why}"),
                    other => panic!("{text}: {other:?}"),
                }
            }
        }
    }
}
