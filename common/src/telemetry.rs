//! Logs and spans: `tracing` to standard error, for people or as JSON lines.
//!
//! Owns how events are written, not what is written. Nothing here reads the environment: a binary
//! parses `--log`/`TRAINYARD_LOG` and `--log-format` and hands the values in.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged unless something else is asked for.
pub const DEFAULT_FILTER: &str = "info";

/// How each event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people, coloured on a terminal.
    #[default]
    Human,
    /// One JSON object a line, for collectors.
    Json,
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            other => Err(TelemetryError::UnknownFormat(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// Why logging could not be set up. A retry never helps.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log format: `{0}` is unknown; expected `human` or `json`")]
    UnknownFormat(String),
    #[error(
        "log filter: `{filter}` is not understood ({reason}); expected a level (`error`, `warn`, \
         `info`, `debug`, `trace`) or directives such as `info,trainyard_worker=debug`"
    )]
    BadFilter { filter: String, reason: String },
    #[error("logging has already been set up in this process")]
    AlreadySet,
}

/// Sends every event that `filter` lets through to standard error. Once a process.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    init_with_writer(
        filter,
        format,
        std::io::stderr().is_terminal(),
        std::io::stderr,
    )
}

/// As [`init`], into another writer (one that keeps clear of a progress bar, a test's buffer).
pub fn init_with_writer<W>(
    filter: &str,
    format: LogFormat,
    colour: bool,
    writer: W,
) -> Result<(), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(writer);
    let installed = match format {
        LogFormat::Human => builder.with_ansi(colour).compact().finish().try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init(),
    };
    installed.map_err(|_| TelemetryError::AlreadySet)
}

/// Checks a filter without setting anything up, for validation before a port is bound.
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse_filter(filter).map(|_| ())
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|error| TelemetryError::BadFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_filters_are_checked() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert_eq!("human".parse::<LogFormat>().unwrap(), LogFormat::Human);
        let error = "xml".parse::<LogFormat>().unwrap_err().to_string();
        assert!(
            error.contains("`xml`") && error.contains("`json`"),
            "{error}"
        );
        check_filter("info,trainyard_worker=debug").unwrap();
        let error = check_filter("info,=x=y").unwrap_err().to_string();
        assert!(error.contains("info,=x=y"), "{error}");
    }
}
