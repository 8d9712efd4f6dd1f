//! PURE: whether a program's arguments and environment are such as a system takes.

use serde_json::{Map, Value};
use trainyard_common::spec::EntrypointSpec;

/// The longest argument or variable with its end, in bytes (`MAX_ARG_STRLEN` of Linux).
const MAX_BYTES: usize = 128 * 1024;

/// What cannot be handed to a program, with the hyperparameter that it comes from.
pub(super) fn unfit(entrypoint: &EntrypointSpec, params: &Map<String, Value>) -> Option<String> {
    let arguments = entrypoint.command.iter().enumerate();
    let arguments =
        arguments.map(|(at, text)| (format!("entrypoint.command[{at}]"), text.as_str()));
    let variables = entrypoint.environment.iter();
    let variables = variables.filter_map(|(name, variable)| {
        Some((format!("entrypoint.environment.{name}"), variable.text()?))
    });
    for (field, text) in arguments.chain(variables) {
        let what = if text.contains('\0') {
            "holds a NUL character, which no argument and no variable may".to_owned()
        } else if text.len() >= MAX_BYTES {
            too_long(text.len())
        } else {
            continue;
        };
        let from = source(text, params).map(|name| format!(" (from the hyperparameter `{name}`)"));
        return Some(format!("{field}{} {what}", from.unwrap_or_default()));
    }
    let json = Value::Object(params.clone()).to_string();
    let name = "TRAINYARD_PARAMS=";
    (json.len() + name.len() >= MAX_BYTES).then(|| {
        let longest = params
            .iter()
            .max_by_key(|(_, value)| value.to_string().len());
        let longest = longest.map(|(name, _)| format!(", the longest is `{name}`"));
        format!(
            "the hyperparameters as JSON (TRAINYARD_PARAMS): {}{}",
            too_long(json.len()),
            longest.unwrap_or_default()
        )
    })
}

fn too_long(bytes: usize) -> String {
    format!("has {bytes} bytes, at most {} are accepted", MAX_BYTES - 32)
}

/// The hyperparameter whose text makes up the most of a text.
fn source<'a>(text: &str, params: &'a Map<String, Value>) -> Option<&'a str> {
    let texts = params
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_str()?)));
    let held = texts.filter(|(_, value)| !value.is_empty() && text.contains(value));
    held.max_by_key(|(_, value)| (value.contains('\0'), value.len()))
        .map(|(name, _)| name.as_str())
}

/// The system says the same of a program that is not there and of one whose interpreter is not.
pub(super) fn cannot_start(program: &str, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound if program.contains('/') => {
            "; it, or the interpreter that its first line (#!) names, is not there on this worker (a relative path is \
             one of the working directory, of which `ship` may have left parts out)"
        }
        std::io::ErrorKind::NotFound => {
            "; there is none of this name in the PATH of this worker (one of the working directory is `./NAME`)"
        }
        std::io::ErrorKind::PermissionDenied => "; it must be a file that may be executed",
        _ => "",
    };
    format!("cannot start `{program}`: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_program_can_be_given_is_named_with_its_hyperparameter() {
        let long = "x".repeat(MAX_BYTES);
        let table = [
            ("a", "a", None),
            (
                "a\0b",
                "--x=a\0b",
                Some("command[1] (from the hyperparameter `x`) holds a NUL"),
            ),
            (&long, "--x", Some("TRAINYARD_PARAMS): has 131")),
            (
                &long,
                &long,
                Some("command[1] (from the hyperparameter `x`) has 131072 bytes"),
            ),
            ("b", "a\0", Some("command[1] holds a NUL")),
        ];
        for (value, argument, expected) in table {
            let entrypoint = EntrypointSpec {
                command: vec!["program".to_owned(), argument.to_owned()],
                ..EntrypointSpec::default()
            };
            let params =
                Map::from_iter([("x".to_owned(), value.into()), ("y".to_owned(), 1.into())]);
            let told = unfit(&entrypoint, &params);
            match expected {
                Some(words) => {
                    assert!(told.as_ref().is_some_and(|t| t.contains(words)), "{told:?}")
                }
                None => assert_eq!(told, None),
            }
        }
    }
}
