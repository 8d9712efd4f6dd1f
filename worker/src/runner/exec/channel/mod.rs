//! The channel: a Unix socket of one attempt, over which its program reports and is told to stop.
//!
//! What lines mean is decided in [`wire`]; one connection is served in [`connection`]. Bounded are the connections of
//! an attempt, the lines, and what waits to be written to a program that does not read.

mod connection;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use trainyard_common::spec::EntrypointSpec;

use super::Task;
use super::checkpoints::ProgramCheckpoints;
use super::stopping::Reason;
use super::telling::Telling;
use crate::attempt::Stop;
use crate::runner::Scratch;
use crate::runner::scratch::AttemptFolder;
use crate::runner::user::User;

/// Connections of one attempt at one time: a process for each core of a large machine, and then some.
const MAX_CONNECTIONS: usize = 256;
/// After a connection could not be accepted (no descriptors are left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Whoever has connected before the program's end is still accepted.
const LATE: Duration = Duration::from_millis(20);

/// An open channel. Dropped, its connections end and its socket is gone.
#[derive(Debug)]
pub(super) struct Channel {
    folder: Folder,
    closing: CancellationToken,
    serving: JoinHandle<()>,
}

/// What the connections of an attempt share.
#[derive(Debug)]
struct Shared {
    telling: Arc<Telling>,
    token: String,
    /// What a program is welcomed with, but for the stop.
    welcome: Value,
    grace_s: f64,
    /// Kinds of requests whose refusal was told.
    refused: Mutex<BTreeSet<&'static str>>,
}

impl Channel {
    /// Opens the channel of an attempt whose program is about to start, in a folder of its own: what a killed worker
    /// leaves of it is removed with the rest.
    ///
    /// `user`: who may connect, if not the worker's own.
    pub(super) fn open(
        task: &Task,
        telling: &Arc<Telling>,
        token: &str,
        scratch: &Scratch,
        user: Option<&User>,
    ) -> io::Result<Self> {
        let program = task.spec.job.entrypoint.as_ref();
        let grace = program.map_or(Duration::ZERO, EntrypointSpec::stop_grace);
        let folder = Folder(scratch.for_socket()?);
        let listener = UnixListener::bind(folder.socket())?;
        fs::set_permissions(folder.socket(), Permissions::from_mode(0o600))?;
        if let Some(user) = user {
            folder.let_through(user)?;
        }
        let shared = Arc::new(Shared {
            telling: telling.clone(),
            token: token.to_owned(),
            welcome: welcome(task, &telling.checkpoints, grace),
            grace_s: grace.as_secs_f64(),
            refused: Mutex::default(),
        });
        let closing = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, shared, closing.clone()));
        Ok(Self {
            folder,
            closing,
            serving,
        })
    }

    /// Where the program finds it.
    pub(super) fn environment(&self) -> (&'static str, PathBuf) {
        ("TRAINYARD_CHANNEL", self.folder.socket())
    }

    /// A file beside the socket with the attempt's token in it, for who reads it from one.
    pub(super) fn token_file(&self, token: &str) -> io::Result<PathBuf> {
        let path = self.folder.token_file();
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(token.as_bytes())?;
        // Whoever may speak over the socket may read it.
        let socket = fs::symlink_metadata(self.folder.socket())?;
        lchown(&path, Some(socket.uid()), Some(socket.gid()))?;
        Ok(path)
    }

    /// Accepts nobody any more; the task ends once all that was said is read.
    pub(super) fn close(&mut self) -> &mut JoinHandle<()> {
        self.closing.cancel();
        &mut self.serving
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn welcome(task: &Task, checkpoints: &ProgramCheckpoints, grace: Duration) -> Value {
    let assignment = &task.assignment;
    let restore = checkpoints.restored().map(|restored| {
        let path = restored.path.to_string_lossy();
        json!({"path": path, "epoch": restored.epoch, "step": restored.step})
    });
    let names = task.spec.job.hyperparameters.0.iter();
    let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    json!({
        "type": "welcome",
        "version": wire::VERSION,
        "job_id": assignment.job_id,
        "trial_id": assignment.trial_id,
        "attempt": assignment.attempt,
        "rank": assignment.rank,
        "world_size": assignment.ranks.len(),
        "seed": task.spec.trial_seed,
        "params": task.spec.params,
        "hyperparameters": names,
        "until_epoch": assignment.until_epoch,
        "restore": restore,
        "checkpoint_dir": checkpoints.directory().to_string_lossy(),
        "stop_grace_s": grace.as_secs_f64(),
    })
}

impl Shared {
    /// Why the program is to stop, if it is.
    fn reason(&self) -> Option<Reason> {
        let stop = self.telling.reporter.stop.get().map(Reason::from);
        stop.max(self.telling.is_reached().then_some(Reason::Rung))
    }

    /// Resolves once the program is to stop for a reason more urgent than what it was told.
    async fn more_urgent_than(&self, told: Option<Reason>) -> Reason {
        let stop = &self.telling.reporter.stop;
        tokio::select! {
            biased;
            () = stop.reached(Stop::Now), if told < Some(Reason::Cancel) => Reason::Cancel,
            () = stop.reached(Stop::Checkpoint), if told < Some(Reason::Leave) => Reason::Leave,
            () = self.telling.reached(), if told < Some(Reason::Rung) => Reason::Rung,
            else => std::future::pending().await,
        }
    }

    /// Tells once for each kind of request what was refused.
    fn refuse(&self, kind: &'static str, why: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.insert(kind) {
            self.telling.reporter.warn(&format!(
                "the channel refuses what the program says: {why} (told once)"
            ));
        }
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>, closing: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => accept(accepted, &shared, &mut connections).await,
            () = closing.cancelled() => break,
        }
    }
    while let Ok(accepted) = tokio::time::timeout(LATE, listener.accept()).await {
        accept(accepted, &shared, &mut connections).await;
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    accepted: io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    match accepted {
        Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
            connections.spawn(connection::serve(stream, shared.clone()));
        }
        Ok((stream, _)) => {
            let why = format!("over {MAX_CONNECTIONS} connections of one attempt");
            shared.refuse("connection", &why);
            connection::refuse(&stream, &why);
        }
        Err(error) => {
            tracing::debug!(%error, "a program's connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// A folder that only this user can look into, with the socket in it, and the token where somebody reads it there.
#[derive(Debug)]
struct Folder(AttemptFolder);

impl Folder {
    /// The socket becomes the user's; the folder stays the worker's, so that nothing else comes in its place.
    fn let_through(&self, user: &User) -> io::Result<()> {
        lchown(self.socket(), Some(user.uid), Some(user.gid))?;
        self.0.let_through()
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("s")
    }

    fn token_file(&self) -> PathBuf {
        self.0.path().join("t")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Two files are removed sooner than a tree is; what stays goes with the folder.
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_file(self.token_file());
        let _ = fs::remove_dir(self.0.path());
    }
}
