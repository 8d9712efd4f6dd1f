//! Logs and spans: `tracing` to standard error, for people or as JSON lines.
//!
//! Owns how events are written, not what is written. Nothing here reads the environment: a binary
//! parses `--log`/`TRAINYARD_LOG` and `--log-format` and hands the values in. Every event is one line,
//! whatever the texts of others in it hold.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{self, FmtSpan, Writer};
use tracing_subscriber::util::SubscriberInitExt;

use crate::store_url::redacted;
use crate::text::{self, Keep};

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
    init_with_writer(filter, format, io::stderr().is_terminal(), io::stderr)
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
    subscriber(filter, format, colour, writer)?
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)
}

fn subscriber<W>(
    filter: &str,
    format: LogFormat,
    colour: bool,
    writer: W,
) -> Result<tracing::Dispatch, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parse_filter(filter)?;
    let shown = match format {
        LogFormat::Human if colour => Shown::Coloured,
        LogFormat::Human => Shown::Plain,
        LogFormat::Json => Shown::Json,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(Lines {
            inner: writer,
            shown,
        });
    Ok(match format {
        LogFormat::Human => builder
            .with_ansi(colour)
            .fmt_fields(format::debug_fn(write_field).delimited(" "))
            .compact()
            .finish()
            .into(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .into(),
    })
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

/// One field of an event or span. The formatter's own escapes what is in messages, and not what is in fields.
fn write_field(
    writer: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    let value = format!("{value:?}");
    let value = text::printable(&value, Keep::Nothing);
    match field.name() {
        "message" => write!(writer, "{value}"),
        name if writer.has_ansi_escapes() => write!(writer, "\u{1b}[3m{name}\u{1b}[0m={value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// What is in a written event beside texts.
#[derive(Debug, Clone, Copy)]
enum Shown {
    /// Colours, and no others than the formatter's: [`write_field`] has escaped those of texts.
    Coloured,
    Plain,
    Json,
}

/// Writers whose events have passed through [`text`] and [`redacted`].
struct Lines<W> {
    inner: W,
    shown: Shown,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            inner: self.inner.make_writer(),
            shown: self.shown,
        }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        Line {
            inner: self.inner.make_writer_for(meta),
            shown: self.shown,
        }
    }
}

/// One write is one event with its line end.
struct Line<W> {
    inner: W,
    shown: Shown,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let written = String::from_utf8_lossy(event);
        let line = redacted(written.strip_suffix('\n').unwrap_or(&written));
        let line = match self.shown {
            Shown::Coloured => text::printable_coloured(&line),
            Shown::Plain => text::printable(&line, Keep::Nothing),
            Shown::Json => text::printable_json(&line),
        };
        self.inner.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What an event with a hostile name in it comes to.
    fn logged(format: LogFormat, colour: bool) -> String {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let into = Arc::clone(&buffer);
        let subscriber = subscriber("info", format, colour, move || Buffer(Arc::clone(&into)));
        tracing::dispatcher::with_default(&subscriber.unwrap(), || {
            let host = "a\u{1b}[2Jb\n2026-01-01 INFO all is well\u{202e}\u{9b}";
            let url = "http://me:secret@host/x?sig=secret";
            tracing::info!(%host, quoted = ?host, %url, "worker {host} joined, see {url}");
        });
        let bytes = buffer.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_without_orders_to_the_terminal() {
        for (format, colour) in [
            (LogFormat::Human, false),
            (LogFormat::Human, true),
            (LogFormat::Json, false),
        ] {
            let text = logged(format, colour);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(
                text.ends_with('\n') && !text.contains("\u{1b}[2J"),
                "{text:?}"
            );
            assert!(!text.contains(['\u{9b}', '\u{202e}']), "{text:?}");
            assert_eq!(text.contains('\u{1b}'), colour, "{text:?}");
            assert!(text.contains("http://***@host/x?sig=***"), "{text:?}");
            assert!(!text.contains("secret"), "{text:?}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&logged(LogFormat::Json, false)).unwrap();
        assert!(
            json["host"].as_str().unwrap().contains('\u{202e}'),
            "{json}"
        );
    }

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
