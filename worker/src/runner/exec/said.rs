//! PURE: what a report says, whichever way it comes: its metrics, where it stands, its checkpoint.

use serde_json::{Map, Value};
use trainyard_proto::MAX_METRIC_NAME_BYTES;

use super::loose;
use crate::attempt::Mask;

/// Metrics of one report at most.
pub(super) const MAX_METRICS: usize = 256;

/// As much of a name or a value as an error quotes, in characters.
const MAX_QUOTED: usize = 40;

/// A report as the program made it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Said {
    pub(super) metrics: Vec<(String, f64)>,
    pub(super) epoch: Option<u64>,
    pub(super) step: Option<u64>,
    /// `epoch` is a number of complete epochs, however the program counts.
    pub(super) complete: bool,
    /// Where the checkpoint lies that belongs to it.
    pub(super) checkpoint: Option<String>,
    /// A name as it was given, where blanks were taken off.
    pub(super) trimmed: Option<String>,
}

impl Said {
    /// Reads the fields of a report; others are ignored. An error names the field, what was given and what is
    /// accepted. Names of metrics go into records, and are without what the mask hides.
    pub(super) fn read(fields: &Map<String, Value>, mask: &Mask) -> Result<Self, String> {
        let mut said = Self {
            epoch: whole(fields, "epoch", mask)?,
            step: whole(fields, "step", mask)?,
            checkpoint: text(fields, "checkpoint", mask)?,
            ..Self::default()
        };
        let metrics = match fields.get("metrics") {
            Some(Value::Object(metrics)) => metrics,
            Some(other) => {
                let given = quoted(&other.to_string(), mask);
                return Err(format!("metrics is {given}, expected an object of numbers"));
            }
            None => return Err("metrics is missing, expected an object of numbers".to_owned()),
        };
        if metrics.len() > MAX_METRICS {
            let given = metrics.len();
            return Err(format!(
                "metrics has {given} entries, at most {MAX_METRICS} are accepted"
            ));
        }
        for (given, value) in metrics {
            let name = named(given, mask)?;
            let Some(value) = loose::number(value) else {
                let value = quoted(&value.to_string(), mask);
                return Err(format!(
                    "metrics.{name} is {value}, expected a number, \"NaN\", \"Infinity\" or \"-Infinity\""
                ));
            };
            if given.trim().len() != given.len() {
                said.trimmed = Some(given.clone());
            }
            match said.metrics.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => said.metrics.push((name, value)),
            }
        }
        Ok(said)
    }
}

/// The name without blanks around it, if the coordinator takes it: it would refuse it, and everything else that
/// this worker has to tell.
pub(super) fn named(given: &str, mask: &Mask) -> Result<String, String> {
    let name = given.trim();
    if name.is_empty() || name.len() > MAX_METRIC_NAME_BYTES || name.contains(char::is_control) {
        let most = MAX_METRIC_NAME_BYTES;
        return Err(format!(
            "a metric's name is {}, accepted are 1 to {most} bytes without control characters",
            quoted(&format!("{given:?}"), mask)
        ));
    }
    Ok(mask.hide(name).into_owned())
}

/// A count that may be missing. A whole number is one, too, where a library writes `3.0`.
pub(super) fn whole(
    fields: &Map<String, Value>,
    field: &str,
    mask: &Mask,
) -> Result<Option<u64>, String> {
    /// Beyond it a double does not hold every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value = match fields.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let written = || {
        value
            .as_f64()
            .filter(|f| f.fract() == 0.0 && (0.0..EXACT).contains(f))
    };
    match value.as_u64().or_else(|| written().map(|f| f as u64)) {
        Some(count) => Ok(Some(count)),
        None => Err(format!(
            "{field} is {}, expected a whole number from 0",
            quoted(&value.to_string(), mask)
        )),
    }
}

/// Text that may be missing.
pub(super) fn text(
    fields: &Map<String, Value>,
    field: &str,
    mask: &Mask,
) -> Result<Option<String>, String> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!(
            "{field} is {}, expected text",
            quoted(&other.to_string(), mask)
        )),
    }
}

/// The beginning of what was given, hidden before it is cut.
pub(super) fn quoted(given: &str, mask: &Mask) -> String {
    let given = mask.hide(given);
    match given.char_indices().nth(MAX_QUOTED) {
        Some((at, _)) => format!("{}...", &given[..at]),
        None => given.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Said, String> {
        match loose::value(text).unwrap() {
            Value::Object(fields) => Said::read(&fields, &Mask::none()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_a_report_says_is_read() {
        let said =
            read(r#"{"metrics": {"loss ": 0.5, "n": 2}, "epoch": 3.0, "step": 7, "more": []}"#);
        let said = said.unwrap();
        assert_eq!(
            said.metrics,
            [("loss".to_owned(), 0.5), ("n".to_owned(), 2.0)]
        );
        assert_eq!((said.epoch, said.step), (Some(3), Some(7)));
        assert_eq!(said.trimmed.as_deref(), Some("loss "));
        let said = read(
            r#"{"metrics": {"a": NaN, "b": "-Infinity"}, "epoch": null, "checkpoint": "c/1"}"#,
        );
        let said = said.unwrap();
        assert!(said.metrics[0].1.is_nan() && said.metrics[1].1 == f64::NEG_INFINITY);
        assert_eq!(
            (said.epoch, said.checkpoint.as_deref()),
            (None, Some("c/1"))
        );
    }

    #[test]
    fn what_is_none_is_refused_with_its_field() {
        let long = format!(r#"{{"metrics": {{"{}": 1}}}}"#, "n".repeat(257));
        let many: Vec<String> = (0..257).map(|n| format!("\"{n}\": 1")).collect();
        let many = format!(r#"{{"metrics": {{{}}}}}"#, many.join(","));
        let table = [
            (r#"{"epoch": 1}"#, "metrics is missing"),
            (r#"{"metrics": 1}"#, "metrics is 1, expected an object"),
            (
                r#"{"metrics": {"a": "x"}}"#,
                "metrics.a is \"x\", expected a number",
            ),
            (r#"{"metrics": {"a": true}}"#, "metrics.a is true"),
            (r#"{"metrics": {"a": null}}"#, "metrics.a is null"),
            (
                r#"{"metrics": {}, "step": -1}"#,
                "step is -1, expected a whole number",
            ),
            (r#"{"metrics": {}, "epoch": 0.5}"#, "epoch is 0.5"),
            (r#"{"metrics": {}, "epoch": "3"}"#, "epoch is \"3\""),
            (
                r#"{"metrics": {}, "checkpoint": 3}"#,
                "checkpoint is 3, expected text",
            ),
            (
                r#"{"metrics": {"a\n": 1, "b\u0007c": 1}}"#,
                "without control characters",
            ),
            (r#"{"metrics": {" ": 1}}"#, "1 to 256 bytes"),
            (&long, "1 to 256 bytes"),
            (&many, "257 entries"),
        ];
        for (text, why) in table {
            let told = read(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
            assert!(told.len() < 200, "{told}");
        }
    }

    #[test]
    fn what_is_hidden_is_hidden_before_it_is_cut() {
        let secret = "0123456789abcdef\"0123456789abcdef";
        let mask = Mask::of([secret]);
        let value = |before: usize| Value::from(format!("{}{secret}", "x".repeat(before)));
        // Wherever the cut would be.
        for before in 0..MAX_QUOTED + 2 {
            let value = value(before);
            let long = format!("{}{secret}\n", "n".repeat(before));
            let table = [
                serde_json::json!({"metrics": value}),
                serde_json::json!({"metrics": {"loss": value}}),
                serde_json::json!({"metrics": {"loss": [1, value]}}),
                serde_json::json!({"metrics": {"a\u{7}": 1, long: 1}}),
                serde_json::json!({"metrics": {}, "epoch": value}),
                serde_json::json!({"metrics": {}, "step": value}),
                serde_json::json!({"metrics": {}, "checkpoint": [value]}),
            ];
            for fields in table {
                let told = Said::read(fields.as_object().unwrap(), &mask).unwrap_err();
                assert!(!told.contains("01"), "{before}: {told}");
            }
        }
        // What goes into records.
        let named = serde_json::json!({"metrics": {format!("of {secret}"): 1}});
        let said = Said::read(named.as_object().unwrap(), &mask).unwrap();
        assert_eq!(said.metrics, [("of ***".to_owned(), 1.0)]);
    }
}
