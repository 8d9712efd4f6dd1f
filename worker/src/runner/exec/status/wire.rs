//! PURE: updates of a trainer's status, as Kubeflow Trainer defines them (KEP-2779) and Hugging Face's
//! `KubeflowCallback` sends them:
//!
//! ```text
//! {"trainerStatus": {"lastUpdatedTime": "...", "progressPercentage": 40, "estimatedRemainingSeconds": 9,
//!                    "metrics": [{"name": "eval_loss", "value": "0.25"}, ...]}}
//! ```

use serde_json::Value;

use crate::attempt::Mask;
use crate::runner::exec::loose;
use crate::runner::exec::said::{MAX_METRICS, named, quoted};

/// What an update says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Update {
    /// Training has come to its end.
    pub(super) finished: bool,
    /// Numbers by name. Others are left out.
    pub(super) metrics: Vec<(String, f64)>,
}

/// Reads the body of a request. Fields that are not named here are ignored.
///
/// # Errors
/// The field, what was given and what is accepted.
pub(super) fn read(body: &[u8], mask: &Mask) -> Result<Update, String> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let Some(Value::Object(status)) = body.get("trainerStatus") else {
        return Err("trainerStatus is missing, expected an object".to_owned());
    };
    let finished = match status.get("progressPercentage") {
        None | Some(Value::Null) => false,
        Some(Value::Number(percent)) => percent.as_f64() >= Some(100.0),
        Some(other) => return Err(refused("progressPercentage", other, "a number", mask)),
    };
    let listed = match status.get("metrics") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(listed)) => &listed[..],
        Some(other) => return Err(refused("metrics", other, "a list", mask)),
    };
    if listed.len() > MAX_METRICS {
        return Err(format!(
            "metrics has {} entries, at most {MAX_METRICS} are accepted",
            listed.len()
        ));
    }
    Ok(Update {
        finished,
        metrics: listed
            .iter()
            .filter_map(|entry| metric(entry, mask))
            .collect(),
    })
}

fn refused(field: &str, given: &Value, expected: &str, mask: &Mask) -> String {
    let given = quoted(&given.to_string(), mask);
    format!("trainerStatus.{field} is {given}, expected {expected}")
}

fn metric(entry: &Value, mask: &Mask) -> Option<(String, f64)> {
    let name = named(entry.get("name")?.as_str()?, mask).ok()?;
    let value = entry.get("value")?;
    let written = || value.as_str()?.trim().parse().ok();
    let value = loose::number(value).or_else(written)?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Update, String> {
        super::read(body, &Mask::none())
    }

    #[test]
    fn an_update_is_read() {
        let body = br#"{"trainerStatus": {"lastUpdatedTime": "2026-01-01T00:00:00+00:00",
            "progressPercentage": 100, "estimatedRemainingSeconds": 0, "metrics": [
            {"name": "loss", "value": "0.5"}, {"name": "learning_rate", "value": "5e-05"},
            {"name": "grad_norm", "value": "nan"}, {"name": "number", "value": 3},
            {"name": "flag", "value": "True"}, {"name": "", "value": "1"}, {"value": "1"}, 7]}}"#;
        let update = read(body).unwrap();
        assert!(update.finished);
        let names: Vec<&str> = update.metrics.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, ["loss", "learning_rate", "grad_norm", "number"]);
        assert_eq!(update.metrics[1].1, 5e-5);
        assert!(update.metrics[2].1.is_nan());
        assert_eq!(read(br#"{"trainerStatus": {}}"#), Ok(Update::default()));
    }

    #[test]
    fn what_is_no_update_is_refused_with_its_field() {
        let many = vec![r#"{"name": "a", "value": "1"}"#; 257].join(",");
        let many = format!(r#"{{"trainerStatus": {{"metrics": [{many}]}}}}"#);
        for (body, why) in [
            ("", "no JSON"),
            ("[]", "trainerStatus is missing"),
            (r#"{"trainerStatus": 1}"#, "trainerStatus is missing"),
            (
                r#"{"trainerStatus": {"progressPercentage": "9"}}"#,
                "progressPercentage is \"9\", expected a number",
            ),
            (r#"{"trainerStatus": {"metrics": {}}}"#, "metrics is {}"),
            (&many, "257 entries"),
        ] {
            let told = read(body.as_bytes()).unwrap_err();
            assert!(told.contains(why), "{body}: {told}");
        }
    }
}
