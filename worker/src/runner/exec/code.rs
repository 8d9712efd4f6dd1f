//! Where a program starts: a folder of this machine, or an attempt's own copy of what was shipped with the job.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trainyard_common::bundle::short;
use trainyard_common::spec::EntrypointSpec;

use crate::attempt::End;
use crate::bundle::{Unpacked, unpack};
use crate::outbox::Reporter;
use crate::runner::scratch::{AttemptFolder, Scratch};
use crate::runner::{Host, Task};

/// How often is looked whether bytes come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where a worker keeps packed bundles, below its scratch folder.
const BUNDLES: &str = "bundles";

/// Where a program starts. Each rank has a copy of its own: what it writes there is nobody else's.
#[derive(Debug)]
pub(super) struct Code {
    working: Option<PathBuf>,
    /// The folder of what was shipped.
    root: Option<PathBuf>,
    /// Removed at the attempt's end.
    copy: Option<AttemptFolder>,
}

impl Code {
    /// Unpacks what was shipped, and makes sure that the program has somewhere to start.
    ///
    /// # Errors
    /// The attempt's end, where it cannot begin.
    pub(super) async fn prepare(
        task: &Task,
        reporter: &Reporter,
        host: &Arc<Host>,
    ) -> Result<Self, End> {
        let Some(entrypoint) = &task.spec.job.entrypoint else {
            return Ok(Self {
                working: None,
                root: None,
                copy: None,
            });
        };
        let (root, copy) = match &entrypoint.bundle {
            None => (None, None),
            Some(digest) => {
                let scratch = host.scratch.as_ref();
                let scratch = scratch.map_err(|error| End::error(error, 0))?;
                let copy = scratch.attempt().map_err(|error| unmade(&error))?;
                let root = copy.path().join("code");
                let shipped = Shipped {
                    digest,
                    url: task.spec.bundle_url.as_deref(),
                };
                shipped.unpack(scratch, reporter, host, &root).await?;
                if let Some(user) = host.rules.user() {
                    let given = copy.give(&[&*root], user);
                    given.map_err(|error| unmade(&error))?;
                }
                (Some(root), Some(copy))
            }
        };
        let working = working(entrypoint, root.clone(), &host.worker_id)?;
        Ok(Self {
            working,
            root,
            copy,
        })
    }

    /// Where the program starts; none: where the worker did.
    pub(super) fn working(&self) -> Option<&Path> {
        self.working.as_deref()
    }

    /// The folder of what was shipped.
    pub(super) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Removes the copy, off the runtime's threads.
    pub(super) async fn remove(self) {
        let copy = self.copy;
        // What is left goes with the worker's folder.
        let _ = tokio::task::spawn_blocking(move || drop(copy)).await;
    }
}

fn unmade(error: &std::io::Error) -> End {
    End::error(format!("no folder for the attempt's code: {error}"), 0)
}

/// The folder in which the program starts, which must be there: the system's own words would blame the program.
fn working(
    entrypoint: &EntrypointSpec,
    root: Option<PathBuf>,
    worker: &str,
) -> Result<Option<PathBuf>, End> {
    let (folder, place) = match (&entrypoint.working_directory, root) {
        (None, root) => return Ok(root),
        (Some(folder), Some(root)) => (root.join(folder), "in the shipped folder".to_owned()),
        (Some(folder), None) => (folder.clone(), format!("on the worker {worker}")),
    };
    let shown = entrypoint
        .working_directory
        .as_deref()
        .unwrap_or(&folder)
        .display();
    match std::fs::metadata(&folder) {
        Ok(found) if found.is_dir() => Ok(Some(folder)),
        Ok(_) => Err(End::error(
            format!("entrypoint.working_directory: {shown} is no folder {place}"),
            0,
        )),
        Err(error) => Err(End::error(
            format!("entrypoint.working_directory: {shown}: {error}, {place}"),
            0,
        )),
    }
}

/// A job's bundle.
struct Shipped<'a> {
    digest: &'a str,
    url: Option<&'a str>,
}

impl Shipped<'_> {
    async fn unpack(
        &self,
        scratch: &Scratch,
        reporter: &Reporter,
        host: &Host,
        to: &Path,
    ) -> Result<(), End> {
        let Some(url) = self.url else {
            let why = "entrypoint.bundle: the coordinator does not say where it lies; is it older than this worker?";
            return Err(End::error(why, 0));
        };
        let folder = scratch.shared(BUNDLES).map_err(|error| unmade(&error))?;
        let moved = Arc::new(AtomicU64::new(0));
        let fetching = host.bundles.open(&folder, url, self.digest, &moved);
        let packed = tokio::select! {
            packed = alive(fetching, reporter, &moved) => packed,
            () = reporter.stop.requested() => return Err(stopped(reporter)),
        };
        let packed = packed.map_err(|error| End::error(error, 0))?;
        // Seconds at most, and not left alone with a folder that is removed meanwhile.
        let (grows, to) = (moved.clone(), to.to_owned());
        let unpacking = tokio::task::spawn_blocking(move || unpack(packed, &to, &grows));
        let unpacked = match alive(unpacking, reporter, &moved).await {
            Ok(unpacked) => unpacked,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let Unpacked { files, bytes } = unpacked.map_err(|why| End::error(why, 0))?;
        if reporter.key.rank == 0 {
            let digest = short(self.digest);
            reporter.info(&format!(
                "unpacked the shipped code {digest}: {files} files, {bytes} bytes"
            ));
        }
        Ok(())
    }
}

/// The end of an attempt that is to stop before its program has begun.
pub(super) fn stopped(reporter: &Reporter) -> End {
    match reporter.stop.get() {
        Some(stop) => End::stopped(stop, 0),
        None => End::error("told to stop", 0),
    }
}

/// Waits for work, which is a sign of life as long as bytes move.
async fn alive<T>(work: impl Future<Output = T>, reporter: &Reporter, moved: &AtomicU64) -> T {
    let mut work = std::pin::pin!(work);
    let mut before = 0;
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = moved.load(Ordering::Relaxed);
        if now != before {
            before = now;
            reporter.activity.sign();
        }
    }
}
