//! PURE: lines of the channel between a program and its worker, version 1.

use serde_json::{Map, Value, json};

use crate::attempt::Mask;
use crate::runner::exec::loose;
use crate::runner::exec::said::{Said, quoted, text, whole};
use crate::runner::exec::stopping::Reason;

/// The version of the protocol that is spoken here.
pub(super) const VERSION: u64 = 1;
/// The longest id of a request, in bytes: it is repeated in the answer.
const MAX_ID_BYTES: usize = 256;

/// What a program asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Hello {
        version: Option<u64>,
        token: String,
    },
    Report(Said),
    Checkpoint {
        path: String,
        epoch: Option<u64>,
        step: Option<u64>,
    },
    /// A file or folder that is kept with the trial, under the last part of its path unless it has a name.
    Artifact {
        path: String,
        name: Option<String>,
    },
    Infeasible(String),
    /// A sign of life.
    Progress,
    ShouldStop,
}

/// A line, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// A string or a number that the answer repeats.
    pub(super) id: Option<Value>,
    /// The type, where it is one of this version: errors of one kind are told once.
    pub(super) kind: &'static str,
    pub(super) request: Result<Request, String>,
}

/// Reads a line. What the mask hides is in no error.
pub(super) fn read(line: &str, mask: &Mask) -> Asked {
    let refused = |why| Asked {
        id: None,
        kind: "line",
        request: Err(why),
    };
    let fields = match loose::value(line) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return refused("a line is no JSON object".to_owned()),
        Err(error) => return refused(format!("a line is no JSON: {error}")),
    };
    let (id, wrong_id) = match id(&fields, mask) {
        Ok(id) => (id, None),
        Err(why) => (None, Some(why)),
    };
    let kind = match fields.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        _ => "",
    };
    let known = KINDS.into_iter().find(|known| *known == kind);
    let request = match (wrong_id, known) {
        (Some(why), _) => Err(why),
        (None, Some(kind)) => request(kind, &fields, mask),
        (None, None) => Err(unknown(&fields, mask)),
    };
    Asked {
        id,
        kind: known.unwrap_or("type"),
        request,
    }
}

const KINDS: [&str; 7] = [
    "hello",
    "report",
    "checkpoint",
    "artifact",
    "infeasible",
    "progress",
    "should_stop",
];

fn unknown(fields: &Map<String, Value>, mask: &Mask) -> String {
    let kinds = KINDS.join(", ");
    match fields.get("type") {
        Some(given) => format!(
            "type is {}, accepted are {kinds}",
            quoted(&given.to_string(), mask)
        ),
        None => format!("type is missing, accepted are {kinds}"),
    }
}

fn request(kind: &str, fields: &Map<String, Value>, mask: &Mask) -> Result<Request, String> {
    let needed = |field| match text(fields, field, mask)? {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(format!("{field} is missing, expected text")),
    };
    match kind {
        "hello" => Ok(Request::Hello {
            version: whole(fields, "version", mask)?,
            token: text(fields, "token", mask)?.unwrap_or_default(),
        }),
        "report" => Said::read(fields, mask).map(Request::Report),
        "checkpoint" => Ok(Request::Checkpoint {
            path: needed("path")?,
            epoch: whole(fields, "epoch", mask)?,
            step: whole(fields, "step", mask)?,
        }),
        "artifact" => Ok(Request::Artifact {
            path: needed("path")?,
            name: text(fields, "name", mask)?,
        }),
        "infeasible" => needed("reason").map(Request::Infeasible),
        "progress" => match fields.get("fraction") {
            None | Some(Value::Number(_)) => Ok(Request::Progress),
            Some(other) => Err(format!(
                "fraction is {}, expected a number",
                quoted(&other.to_string(), mask)
            )),
        },
        _ => Ok(Request::ShouldStop),
    }
}

fn id(fields: &Map<String, Value>, mask: &Mask) -> Result<Option<Value>, String> {
    match fields.get("id") {
        None | Some(Value::Null) => Ok(None),
        Some(id @ Value::Number(_)) => Ok(Some(id.clone())),
        Some(Value::String(id)) if id.len() <= MAX_ID_BYTES => Ok(Some(id.as_str().into())),
        Some(other) => Err(format!(
            "id is {}, expected a number or text of at most {MAX_ID_BYTES} bytes",
            quoted(&other.to_string(), mask)
        )),
    }
}

/// The word for a reason.
pub(super) fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Rung => "rung",
        Reason::Leave => "leave",
        Reason::Cancel => "cancel",
    }
}

pub(super) fn ok(id: &Value) -> Value {
    json!({"type": "ok", "id": id})
}

pub(super) fn error(id: Option<&Value>, message: &str) -> Value {
    match id {
        Some(id) => json!({"type": "error", "id": id, "message": message}),
        None => json!({"type": "error", "message": message}),
    }
}

/// The answer to `should_stop`.
pub(super) fn stop(id: Option<&Value>, reason: Option<Reason>) -> Value {
    json!({"type": "stop", "id": id, "reason": reason.map(word)})
}

/// A stop that nobody has asked about.
pub(super) fn pushed(reason: Reason, grace_s: f64) -> Value {
    json!({"type": "stop", "reason": word(reason), "grace_s": grace_s})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Asked {
        super::read(line, &Mask::none())
    }

    #[test]
    fn requests_are_read() {
        let said = Said {
            metrics: vec![("loss".to_owned(), f64::INFINITY)],
            epoch: Some(3),
            ..Said::default()
        };
        let table = [
            (
                r#"{"type":"hello","version":1,"token":"a"}"#,
                Request::Hello {
                    version: Some(1),
                    token: "a".to_owned(),
                },
            ),
            (
                r#"{"type":"report","metrics":{"loss":Infinity},"epoch":3,"more":1}"#,
                Request::Report(said),
            ),
            (
                r#"{"type":"checkpoint","path":"a/b","step":7}"#,
                Request::Checkpoint {
                    path: "a/b".to_owned(),
                    epoch: None,
                    step: Some(7),
                },
            ),
            (
                r#"{"type":"artifact","path":"a/b"}"#,
                Request::Artifact {
                    path: "a/b".to_owned(),
                    name: None,
                },
            ),
            (
                r#"{"type":"artifact","path":"a/b","name":"c"}"#,
                Request::Artifact {
                    path: "a/b".to_owned(),
                    name: Some("c".to_owned()),
                },
            ),
            (
                r#"{"type":"infeasible","reason":"no"}"#,
                Request::Infeasible("no".to_owned()),
            ),
            (r#"{"type":"progress","fraction":0.4}"#, Request::Progress),
            (r#"{"type":"should_stop"}"#, Request::ShouldStop),
        ];
        for (line, expected) in table {
            assert_eq!(read(line).request, Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_with_its_field_and_answered_under_its_id() {
        let table = [
            ("", None, "a line is no JSON: EOF"),
            ("[1]", None, "no JSON object"),
            (
                r#"{"id":7}"#,
                Some(json!(7)),
                "type is missing, accepted are hello",
            ),
            (
                r#"{"id":"a","type":"metric"}"#,
                Some(json!("a")),
                r#"type is "metric", accepted are"#,
            ),
            (r#"{"type":7}"#, None, "type is 7"),
            (
                r#"{"id":[],"type":"should_stop"}"#,
                None,
                "id is [], expected",
            ),
            (
                r#"{"id":1,"type":"report","metrics":{"loss":"x"}}"#,
                Some(json!(1)),
                r#"metrics.loss is "x", expected a number"#,
            ),
            (r#"{"type":"checkpoint"}"#, None, "path is missing"),
            (r#"{"type":"artifact","name":"a"}"#, None, "path is missing"),
            (
                r#"{"type":"artifact","path":"a","name":1}"#,
                None,
                "name is 1",
            ),
            (
                r#"{"type":"checkpoint","path":"","epoch":1}"#,
                None,
                "path is missing",
            ),
            (r#"{"type":"infeasible","reason":1}"#, None, "reason is 1"),
            (r#"{"type":"progress","fraction":"a"}"#, None, "fraction is"),
            (
                r#"{"type":"hello","version":"1"}"#,
                None,
                "version is \"1\"",
            ),
        ];
        for (line, id, why) in table {
            let asked = read(line);
            assert_eq!(asked.id, id, "{line}");
            let told = asked.request.unwrap_err();
            assert!(told.contains(why), "{line}: {told}");
        }
    }

    #[test]
    fn what_is_hidden_is_hidden_before_it_is_cut() {
        let secret = "0123456789abcdef0123456789abcdef";
        let mask = Mask::of([secret]);
        for before in 0..42 {
            let given = format!("{}{secret}", "x".repeat(before));
            let long = format!("{given}{}", "y".repeat(MAX_ID_BYTES));
            for line in [
                json!({"type": given}),
                json!({"type": "should_stop", "id": long}),
                json!({"type": "progress", "fraction": given}),
                json!({"type": "hello", "version": given}),
                json!({"type": "hello", "token": [given]}),
                json!({"type": "artifact", "path": "a", "name": [given]}),
                json!({"type": "checkpoint", "path": {"a": given}}),
                json!({"type": "infeasible", "reason": [given]}),
            ] {
                let told = super::read(&line.to_string(), &mask).request.unwrap_err();
                assert!(!told.contains("01"), "{before}: {told}");
            }
        }
    }
}
