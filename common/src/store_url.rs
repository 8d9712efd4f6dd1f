//! Opens the object store that a URL names, and proves that two processes see the same one.
//!
//! Credentials and endpoints come from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`). Every wait is
//! bounded, so that a store that is away is an error and not a hang. What the objects mean is not
//! known here.

mod redact;
#[cfg(feature = "cloud")]
mod remote;

use std::collections::HashMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

pub use redact::redacted;
#[cfg(feature = "cloud")]
pub use remote::is_setting;

/// What a message says is accepted.
pub const ACCEPTED: &str = "a path, file:///path, s3://bucket/path, gs://bucket/path, \
     az://container/path, http(s)://host/path or memory://name/path";

/// The whole of one half of a probe.
const PROBE_DEADLINE: Duration = Duration::from_secs(20);
/// Probe objects are a few words; whatever is larger was not written by a coordinator.
const MAX_PROBE_BYTES: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum StoreUrlError {
    /// The URL itself is wrong: a retry cannot help.
    #[error("`{url}`: {reason}; accepted: {ACCEPTED}")]
    Url { url: String, reason: String },
    /// The store's settings (credentials, endpoint) are wrong or missing: a retry cannot help.
    #[error("`{url}`: the store cannot be set up: {reason}")]
    Settings { url: String, reason: String },
    /// The store did not do what was asked.
    #[error("`{url}`: {reason}")]
    Store { url: String, reason: String },
    /// The two ends of a probe do not see the same store.
    #[error("{0}")]
    NotShared(String),
}

/// The store and the path within it. Nothing is read or written yet.
///
/// `memory://name` is one store for each name, for as long as the process lives. `file://` folders are
/// made when something is written, and every write is synced to the disk before it is answered.
pub fn open(url: &str) -> Result<(Arc<dyn ObjectStore>, Path), StoreUrlError> {
    let bad = |reason: String| StoreUrlError::Url {
        url: redacted(url).into_owned(),
        reason,
    };
    if url.trim().is_empty() {
        return Err(bad("an empty URL".to_owned()));
    }
    if !url.contains("://") && !url.starts_with("file:") {
        return local(FilePath::new(url)).map_err(bad);
    }
    let parsed = Url::parse(url).map_err(|error| bad(format!("not a URL ({error})")))?;
    match parsed.scheme() {
        "file" => {
            let path = parsed.to_file_path().map_err(|()| {
                bad("a file URL has three slashes and an absolute path".to_owned())
            })?;
            local(&path).map_err(bad)
        }
        "memory" => memory(&parsed).map_err(bad),
        #[cfg(feature = "cloud")]
        "s3" | "s3a" | "gs" | "az" | "http" | "https" => remote::open(&parsed, url),
        #[cfg(not(feature = "cloud"))]
        "s3" | "s3a" | "gs" | "az" | "http" | "https" => Err(StoreUrlError::Settings {
            url: redacted(url).into_owned(),
            reason: "this program was built without the clients of object stores and web servers: \
                     build it with `--features cloud`"
                .to_owned(),
        }),
        other => Err(bad(format!("unknown scheme `{other}`"))),
    }
}

/// The file that a URL or plain path names, if it names one.
pub fn local_path(url: &str) -> Option<PathBuf> {
    if !url.contains("://") && !url.starts_with("file:") {
        return Some(PathBuf::from(url));
    }
    let parsed = Url::parse(url).ok()?;
    (parsed.scheme() == "file")
        .then(|| parsed.to_file_path().ok())
        .flatten()
}

/// Whether a URL names a store that lives in this process alone.
pub fn is_memory(url: &str) -> bool {
    url.starts_with("memory:")
}

/// Whether a URL names a plain web server: good for reading data, not for checkpoints.
pub fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// What went wrong, with the reasons beneath it, in one line.
pub fn describe(error: &object_store::Error) -> String {
    match error {
        object_store::Error::NotFound { path, .. } => format!("no such object: {path}"),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            // Of requests, whose addresses may be signed.
            redacted(&line).into_owned()
        }
    }
}

fn local(path: &FilePath) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    let location = Path::from_absolute_path(&plain).map_err(|error| error.to_string())?;
    Ok((Arc::new(LocalFileSystem::new().with_fsync(true)), location))
}

fn memory(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    static STORES: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);
    let name = url.host_str().unwrap_or_default().to_owned();
    let path = Path::from_url_path(url.path()).map_err(|error| error.to_string())?;
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    let store = Arc::clone(stores.entry(name).or_default());
    Ok((store, path))
}

/// The coordinator's first half: writes `content` at `path` below `url`.
pub async fn write_probe(url: &str, path: &str, content: &str) -> Result<(), StoreUrlError> {
    put_text(url, path, content).await
}

/// The worker's half: reads what the coordinator wrote at `path`, compares it with `content`, and
/// writes it reversed at `reply_path`.
pub async fn check_probe(
    url: &str,
    path: &str,
    content: &str,
    reply_path: &str,
) -> Result<(), StoreUrlError> {
    let shown = redacted(url);
    match get_text(url, path).await? {
        Some(found) if found == content => {}
        Some(_) => {
            return Err(StoreUrlError::NotShared(format!(
                "the worker reads another store than the coordinator: in `{shown}` the object {path} \
                 has another content than the coordinator wrote"
            )));
        }
        None => {
            return Err(StoreUrlError::NotShared(format!(
                "the worker reads another store than the coordinator: in `{shown}` it does not find \
                 {path}, which the coordinator has just written (a file:// path must be on a file \
                 system that all machines share)"
            )));
        }
    }
    put_text(url, reply_path, &reversed(content)).await
}

/// The coordinator's second half: reads the worker's reply, and removes both objects.
pub async fn check_reply(
    url: &str,
    path: &str,
    content: &str,
    reply_path: &str,
) -> Result<(), StoreUrlError> {
    let found = get_text(url, reply_path).await?;
    // What stays behind if this fails is a few bytes, and does no harm.
    for object in [path, reply_path] {
        if let Err(error) = remove(url, object).await {
            tracing::debug!(%error, object, "a probe object was not removed");
        }
    }
    let shown = redacted(url);
    match found {
        Some(found) if found == reversed(content) => Ok(()),
        Some(_) => Err(StoreUrlError::NotShared(format!(
            "the worker writes another store than the coordinator: in `{shown}` the object \
             {reply_path} has another content than the worker's reply"
        ))),
        None => Err(StoreUrlError::NotShared(format!(
            "the worker writes another store than the coordinator: in `{shown}` its reply \
             {reply_path} is not found"
        ))),
    }
}

fn reversed(content: &str) -> String {
    content.chars().rev().collect()
}

fn below(url: &str, path: &str) -> Result<(Arc<dyn ObjectStore>, Path), StoreUrlError> {
    let (store, prefix) = open(url)?;
    let path = Path::parse(path).map_err(|error| StoreUrlError::Store {
        url: redacted(url).into_owned(),
        reason: error.to_string(),
    })?;
    Ok((store, prefix.parts().chain(path.parts()).collect()))
}

/// Waits for a store, but not for ever.
async fn bounded<T>(
    url: &str,
    what: &str,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, StoreUrlError> {
    let failed = |reason: String| StoreUrlError::Store {
        url: redacted(url).into_owned(),
        reason: format!("cannot {what}: {reason}"),
    };
    match tokio::time::timeout(PROBE_DEADLINE, work).await {
        Ok(result) => result.map_err(|error| failed(describe(&error))),
        Err(_) => Err(failed(format!(
            "no answer within {} seconds",
            PROBE_DEADLINE.as_secs()
        ))),
    }
}

async fn put_text(url: &str, path: &str, content: &str) -> Result<(), StoreUrlError> {
    let (store, location) = below(url, path)?;
    let put = store.put(&location, content.to_owned().into());
    bounded(url, &format!("write {path}"), put).await?;
    Ok(())
}

/// `None`: there is no such object.
async fn get_text(url: &str, path: &str) -> Result<Option<String>, StoreUrlError> {
    let (store, location) = below(url, path)?;
    let read = async {
        let found = match store.get(&location).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        if found.meta.size > MAX_PROBE_BYTES {
            return Ok(Some(String::new()));
        }
        let bytes = found.bytes().await?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    };
    bounded(url, &format!("read {path}"), read).await
}

async fn remove(url: &str, path: &str) -> Result<(), StoreUrlError> {
    let (store, location) = below(url, path)?;
    bounded(url, &format!("delete {path}"), store.delete(&location)).await
}

#[cfg(test)]
mod tests;
