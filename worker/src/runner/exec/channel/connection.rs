//! One connection of a program: greeted, then served line by line, and told of stops.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Shared;
use super::wire::{self, Asked, Request};
use crate::runner::exec::lines::{Line, Lines};

/// The longest line, in bytes, as the protocol says.
const MAX_LINE_BYTES: usize = 1 << 20;
/// A program says who it is within this time.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Answers that wait for the program to read: beyond it no more of its requests are read.
const MAX_ANSWERS: usize = 64;

/// What is written to a program.
enum Said {
    /// Pushed stops follow from here on.
    Welcome,
    Answer(Value),
}

pub(super) async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    let (read, write) = stream.into_split();
    let (answers, said) = mpsc::channel(MAX_ANSWERS);
    let reading = async {
        // The writer ends with the sender.
        listen(Lines::new(read, MAX_LINE_BYTES, false), &answers, &shared).await;
        drop(answers);
    };
    tokio::join!(reading, speak(write, said, &shared));
}

/// Answers one who cannot be served, as far as it takes it at once.
pub(super) fn refuse(stream: &UnixStream, why: &str) {
    let line = format!("{}\n", wire::error(None, why));
    if let Err(error) = stream.try_write(line.as_bytes()) {
        tracing::debug!(%error, "a program was refused and does not know why");
    }
}

/// Reads until the program closes the connection, or is none of this attempt.
async fn listen(mut lines: Lines<OwnedReadHalf>, answers: &mpsc::Sender<Said>, shared: &Shared) {
    let Ok(first) = tokio::time::timeout(HELLO_PATIENCE, lines.next()).await else {
        let why = format!("no hello within {} s", HELLO_PATIENCE.as_secs());
        shared.refuse("hello", &why);
        return drop(answers.send(Said::Answer(wire::error(None, &why))).await);
    };
    let Some(first) = first else { return };
    if let Err(why) = greeted(&first, shared) {
        shared.refuse("hello", &why);
        return drop(answers.send(Said::Answer(wire::error(None, &why))).await);
    }
    let _open = shared.telling.opens_channel();
    if answers.send(Said::Welcome).await.is_err() {
        return;
    }
    while let Some(line) = lines.next().await {
        shared.telling.reporter.activity.sign();
        if let Some(answer) = answer(&line, shared).await
            && answers.send(Said::Answer(answer)).await.is_err()
        {
            return;
        }
    }
}

/// Whether the first line is of this attempt's program.
fn greeted(line: &Line, shared: &Shared) -> Result<(), String> {
    let mask = shared.telling.reporter.mask();
    match wire::read(&line.text, mask).request? {
        Request::Hello { version, .. } if version != Some(wire::VERSION) => Err(format!(
            "version is {}, accepted is {}",
            version.map_or("missing".to_owned(), |version| version.to_string()),
            wire::VERSION
        )),
        Request::Hello { token, .. } if token != shared.token => {
            Err("token is not the one in TRAINYARD_TOKEN".to_owned())
        }
        Request::Hello { .. } => Ok(()),
        _ => Err("the first line is not of type hello".to_owned()),
    }
}

async fn answer(line: &Line, shared: &Shared) -> Option<Value> {
    if line.rest.is_none() && line.text.trim().is_empty() {
        return None;
    }
    let asked = match &line.rest {
        None => wire::read(&line.text, shared.telling.reporter.mask()),
        Some(_) => Asked {
            id: None,
            kind: "line",
            request: Err(format!("a line is longer than {MAX_LINE_BYTES} bytes")),
        },
    };
    let id = asked.id.as_ref();
    let done = match asked.request {
        Ok(Request::ShouldStop) => return Some(wire::stop(id, shared.reason())),
        Ok(request) => carry_out(request, shared).await,
        Err(why) => Err(why),
    };
    match done {
        Ok(()) => id.map(wire::ok),
        Err(why) => {
            shared.refuse(asked.kind, &why);
            Some(wire::error(id, &why))
        }
    }
}

async fn carry_out(request: Request, shared: &Shared) -> Result<(), String> {
    match request {
        Request::Report(said) => shared.telling.report(said).await,
        Request::Checkpoint { path, epoch, step } => {
            shared.telling.checkpoint(&path, epoch, step).await
        }
        Request::Artifact { path, name } => shared.telling.artifact(&path, name).await,
        Request::Infeasible(why) => {
            shared.telling.is_infeasible(why);
            Ok(())
        }
        Request::Progress | Request::ShouldStop => Ok(()),
        Request::Hello { .. } => Err("hello was said already".to_owned()),
    }
}

/// Writes answers, and stops that nobody has asked about.
async fn speak(mut write: OwnedWriteHalf, mut said: mpsc::Receiver<Said>, shared: &Shared) {
    let mut welcomed = false;
    let mut told = None;
    loop {
        let line = tokio::select! {
            biased;
            reason = shared.more_urgent_than(told), if welcomed => {
                told = Some(reason);
                wire::pushed(reason, shared.grace_s)
            }
            next = said.recv() => match next {
                None => return,
                Some(Said::Answer(line)) => line,
                Some(Said::Welcome) => {
                    (welcomed, told) = (true, shared.reason());
                    let mut line = shared.welcome.clone();
                    line["stop"] = told.map(wire::word).into();
                    line
                }
            },
        };
        // A program that is gone is read to its end all the same.
        if write
            .write_all(format!("{line}\n").as_bytes())
            .await
            .is_err()
        {
            while said.recv().await.is_some() {}
            return;
        }
    }
}
