//! `ask-tell`: the production searcher and scheduler over lines of JSON, without a cluster.
//!
//! Owns standard input and output and the log; what a line means is `trainyard_coordinator::study::protocol`'s.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trainyard_common::spec::Document;
use trainyard_coordinator::study::{Study, protocol};

use crate::exit::{Failure, Outcome};
use crate::print;
use crate::spec::file::SearchArgs;

/// Longest line of input, in bytes; the protocol refuses it anyway, this bounds what is read.
const MAX_LINE: u64 = 2 << 20;

/// Largest record that is taken up, in bytes.
const MAX_RECORD: u64 = 1 << 30;

/// Drive a search from your own program, over lines of JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    search: SearchArgs,
    /// The seed, in place of the file's
    #[arg(long)]
    seed: Option<u64>,
    /// Records every line; an existing record is taken up where it ends
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let seed = args.seed.map(|seed| format!("seed={seed}"));
    let document = args.search.load(seed)?;
    let mut study = Study::of(document.job()).map_err(|error| Failure::usage(error.to_string()))?;
    let mut log = match &args.log {
        Some(path) => Some(Log::open(path, &document, &mut study)?),
        None => None,
    };
    let mut input = BufReader::new(std::io::stdin().lock());
    let broken = |error: std::io::Error| Failure::failed(format!("cannot go on: {error}"));
    while let Some(line) = next_line(&mut input).map_err(broken)? {
        let answer = protocol::answer(&mut study, &line).to_string();
        if let Some(log) = &mut log {
            log.write(&line, &answer)?;
        }
        print::json_text(&answer)?;
    }
    Ok(())
}

/// The next line without its end; of one that is too long, as much as shows it.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    while line.last().is_some_and(u8::is_ascii_whitespace) {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// The record of a conversation: what is searched, then each line and its answer.
struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens or begins a record; what it holds is said to `study` again.
    fn open(path: &Path, document: &Document, study: &mut Study) -> Outcome<Self> {
        let unusable =
            |error: std::io::Error| Failure::usage(format!("--log: {}: {error}", path.display()));
        let options = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        };
        let mut file = options().map_err(unusable)?;
        if file.try_lock().is_err() {
            return Err(Failure::usage(format!(
                "--log: {}: another process records there",
                path.display()
            )));
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut file)
            .take(MAX_RECORD)
            .read_to_end(&mut bytes)
            .map_err(unusable)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let head = head(document);
        // A line that was cut short, or has no answer, was never answered.
        let kept = replayed(&text, &head, study)
            .map_err(|reason| Failure::failed(format!("--log: {}: {reason}", path.display())))?;
        file.set_len(kept).map_err(unusable)?;
        file.seek(SeekFrom::End(0)).map_err(unusable)?;
        if kept == 0 {
            writeln!(file, "{head}").map_err(unusable)?;
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Before the answer is given.
    fn write(&mut self, line: &str, answer: &str) -> Outcome {
        // One line each, whatever was sent.
        let line: String = line.split(['\n', '\r']).collect();
        self.file
            .write_all(format!("{line}\n{answer}\n").as_bytes())
            .map_err(|error| Failure::failed(format!("--log: {}: {error}", self.path.display())))
    }
}

/// The first line of a record: what decides a search.
fn head(document: &Document) -> String {
    let stored = document.to_json();
    let fields = [
        "seed",
        "hyperparameters",
        "constraints",
        "objectives",
        "searcher",
        "scheduler",
    ];
    let search: serde_json::Map<String, Value> = fields
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), stored.get(field)?.clone())))
        .collect();
    json!({ "search": search }).to_string()
}

/// Says a record's lines to the study again; returns how many bytes of it hold.
fn replayed(text: &str, head: &str, study: &mut Study) -> Result<u64, String> {
    let mut lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let Some(first) = lines.next() else {
        return Ok(0);
    };
    if first.trim_end() != head {
        let known: Result<Value, _> = serde_json::from_str(first);
        let is_record = known.is_ok_and(|known| known.get("search").is_some());
        return Err(if is_record {
            "records another search; accepted is the same file with the same seed".to_owned()
        } else {
            "is no record of a search; accepted is one that `ask-tell --log` wrote, or a new path"
                .to_owned()
        });
    }
    let mut kept = first.len();
    let mut number = 1;
    while let (Some(line), Some(answer)) = (lines.next(), lines.next()) {
        number += 2;
        let again = protocol::answer(study, line.trim_end()).to_string();
        if again != answer.trim_end() {
            return Err(format!(
                "line {number} was answered {}, and this version answers {again}",
                answer.trim_end()
            ));
        }
        kept += line.len() + answer.len();
    }
    Ok(kept as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: &str = "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n\
                          searcher: {name: random, max_trials: 9}";

    fn document(text: &str) -> Document {
        Document::parse_search(text, &[]).unwrap()
    }

    fn open(path: &Path, text: &str) -> Outcome<(Log, Study)> {
        let document = document(text);
        let mut study = Study::of(document.job()).unwrap();
        let log = Log::open(path, &document, &mut study)?;
        Ok((log, study))
    }

    fn say(log: &mut Log, study: &mut Study, line: &str) -> String {
        let answer = protocol::answer(study, line).to_string();
        log.write(line, &answer).unwrap();
        answer
    }

    #[test]
    fn a_record_is_taken_up_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, mut study) = open(&path, SEARCH).unwrap();
        let ask = "{\"ask\":{}}";
        for line in [ask, "{\"tell\":{\"trial\":0,\"value\":1}}", "nonsense", ask] {
            say(&mut log, &mut study, line);
        }
        let next = protocol::answer(&mut study.clone(), ask);
        let busy = open(&path, SEARCH).err().unwrap().message;
        assert!(busy.contains("another process records there"), "{busy}");
        drop(log);
        // Killed while it wrote: a line without an answer, then half a line.
        for torn in [format!("{ask}\n"), "{\"as".to_owned()] {
            let whole = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, format!("{whole}{torn}")).unwrap();
            let (_, mut again) = open(&path, SEARCH).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
            assert_eq!(protocol::answer(&mut again, ask), next);
        }
    }

    #[test]
    fn another_search_or_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, mut study) = open(&path, SEARCH).unwrap();
        let asked = say(&mut log, &mut study, "{\"ask\":{}}");
        drop(log);
        let refused = |text: &str| open(&path, text).err().unwrap().message;
        let other = refused(&format!("seed: 2\n{SEARCH}"));
        assert!(other.contains("records another search"), "{other}");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&asked, "{\"wait\":true}")).unwrap();
        let changed = refused(SEARCH);
        assert!(
            changed.contains("line 3 was answered {\"wait\":true}"),
            "{changed}"
        );
        std::fs::write(&path, "my thesis\n").unwrap();
        let foreign = refused(SEARCH);
        assert!(foreign.contains("is no record"), "{foreign}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "my thesis\n");
    }

    #[test]
    fn lines_are_read_one_by_one() {
        let mut input = BufReader::new(&b"a\r\n\nb"[..]);
        let mut next = || next_line(&mut input).unwrap();
        assert_eq!(next().as_deref(), Some("a"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("b"));
        assert_eq!(next(), None);
    }
}
