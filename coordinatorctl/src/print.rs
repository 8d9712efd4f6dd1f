//! The two ways to say something: results on standard output, remarks on standard error.
//!
//! A reader that has gone away (`| head`) ends the verb quietly and with success. All that is written passes
//! through here, so that nothing that a program, a worker or a file has named reaches the terminal as an
//! order to it.

use std::borrow::Cow;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use trainyard_common::store_url::redacted;
use trainyard_common::text::{self, Keep};

use crate::exit::{Code, Failure, Outcome};

/// Writes a result and a line end to standard output.
pub(crate) fn line(text: &str) -> Outcome {
    raw_line(&shown(text))
}

fn raw_line(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes one result as JSON over several lines.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    json_text(&encode(serde_json::to_string_pretty(value))?)
}

/// Writes one result of a stream: JSON on one line.
pub(crate) fn json_line(value: &impl Serialize) -> Outcome {
    json_text(&encode(serde_json::to_string(value))?)
}

/// Writes one result that is JSON already.
pub(crate) fn json_text(json: &str) -> Outcome {
    raw_line(&text::printable_json(json))
}

/// Says something to the person beside the result, without the secrets of URLs. A closed standard error is no reason to stop.
pub(crate) fn remark(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{}", shown(&redacted(text)));
}

/// Lines as they may stand on a terminal.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    text::printable(text, Keep::Lines)
}

/// A part of a line as it may stand on a terminal.
pub(crate) fn shown_part(text: &str) -> Cow<'_, str> {
    text::printable(text, Keep::Nothing)
}

fn encode(encoded: serde_json::Result<String>) -> Outcome<String> {
    encoded.map_err(|error| Failure::failed(format!("cannot write the result as JSON: {error}")))
}

fn written(result: io::Result<()>) -> Outcome {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(Code::Success),
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    })
}

/// Says what went wrong on standard error and gives the process its exit code.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(Code::Success as u8),
        Err(failure) => {
            if !failure.message.is_empty() {
                remark(&format!("error: {failure}"));
            }
            ExitCode::from(failure.code as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let left = written(Err(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert_eq!(left, Err(Failure::quiet(Code::Success)));
        let full = written(Err(io::Error::from(io::ErrorKind::StorageFull)));
        assert_eq!(full.map_err(|failure| failure.code), Err(Code::Failed));
    }
}
