//! Opens the object store that a URL names, and proves that two processes see the same one.
//!
//! Credentials and endpoints come from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`). Every wait is
//! bounded, so that a store that is away is an error and not a hang. What the objects mean is not
//! known here.

use std::collections::HashMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt, RetryConfig};
use url::Url;

/// What a message says is accepted.
pub const ACCEPTED: &str = "a path, file:///path, s3://bucket/path, gs://bucket/path, \
     az://container/path, http(s)://host/path or memory://name/path";

/// A host that does not answer a connection attempt within this time is away.
const CONNECT_TIMEOUT: &str = "3 seconds";
/// One request with its body: at the part size of checkpoints, about 280 KB/s.
const REQUEST_TIMEOUT: &str = "30 seconds";
/// With the connect timeout: an address that swallows packets is given up after about 13 seconds.
const MAX_RETRIES: usize = 3;
/// No request is tried again once this much time has gone.
const RETRY_TIMEOUT: Duration = Duration::from_secs(12);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
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
        url: url.to_owned(),
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
        "s3" | "s3a" | "gs" | "az" | "http" | "https" => remote(&parsed, url),
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

/// Whether an environment variable is a setting or a credential that a store is opened with.
pub fn is_setting(variable: &str) -> bool {
    let name = variable.to_ascii_lowercase();
    match variable.split_once('_') {
        Some(("AWS", _)) => name.parse::<AmazonS3ConfigKey>().is_ok(),
        Some(("GOOGLE", _)) => name.parse::<GoogleConfigKey>().is_ok(),
        Some(("AZURE", _)) => name.parse::<AzureConfigKey>().is_ok(),
        _ => false,
    }
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
            text.split_whitespace().collect::<Vec<_>>().join(" ")
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

fn remote(url: &Url, given: &str) -> Result<(Arc<dyn ObjectStore>, Path), StoreUrlError> {
    let bad = |reason: String| StoreUrlError::Url {
        url: given.to_owned(),
        reason,
    };
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("no bucket, container or host".to_owned()));
    }
    if url.query().is_some() {
        return Err(bad("a query (`?...`) is not supported".to_owned()));
    }
    let path = Path::from_url_path(url.path()).map_err(|error| bad(error.to_string()))?;
    let built: Result<Arc<dyn ObjectStore>, object_store::Error> = match url.scheme() {
        "s3" | "s3a" => s3(url, environment()),
        "gs" => google(url),
        "az" => azure(url),
        _ => http(url),
    };
    let store = built.map_err(|error| StoreUrlError::Settings {
        url: given.to_owned(),
        reason: describe(&error),
    })?;
    Ok((store, path))
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            max_backoff: MAX_BACKOFF,
            ..BackoffConfig::default()
        },
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    }
}

const TIMEOUTS: [(ClientConfigKey, &str); 2] = [
    (ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT),
    (ClientConfigKey::Timeout, REQUEST_TIMEOUT),
];

/// Conditional puts are on by default (`etag`: `If-None-Match`), which MinIO, R2 and S3 know.
fn s3(
    url: &Url,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = TIMEOUTS
        .into_iter()
        .fold(AmazonS3Builder::new(), |builder, (key, value)| {
            builder.with_config(AmazonS3ConfigKey::Client(key), value)
        });
    // Read last, so that it can set other timeouts.
    for (name, value) in environment {
        if name.starts_with("AWS_")
            && let Ok(key) = name.to_ascii_lowercase().parse()
        {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    let store = builder.with_url(url.as_str()).with_retry(retry()).build()?;
    Ok(Arc::new(store))
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn google(url: &Url) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let builder = TIMEOUTS.into_iter().fold(
        GoogleCloudStorageBuilder::from_env(),
        |builder, (key, value)| builder.with_config(GoogleConfigKey::Client(key), value),
    );
    let store = builder.with_url(url.as_str()).with_retry(retry()).build()?;
    Ok(Arc::new(store))
}

fn azure(url: &Url) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let builder = TIMEOUTS.into_iter().fold(
        MicrosoftAzureBuilder::from_env(),
        |builder, (key, value)| builder.with_config(AzureConfigKey::Client(key), value),
    );
    let store = builder.with_url(url.as_str()).with_retry(retry()).build()?;
    Ok(Arc::new(store))
}

/// For reading data: plain HTTP has no conditional create, so checkpoints cannot lie there.
fn http(url: &Url) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let builder = TIMEOUTS
        .into_iter()
        .fold(HttpBuilder::new(), |builder, (key, value)| {
            builder.with_config(key, value)
        })
        .with_config(ClientConfigKey::AllowHttp, "true");
    let store = builder
        .with_url(&url[..url::Position::BeforePath])
        .with_retry(retry())
        .build()?;
    Ok(Arc::new(store))
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
    match get_text(url, path).await? {
        Some(found) if found == content => {}
        Some(_) => {
            return Err(StoreUrlError::NotShared(format!(
                "the worker reads another store than the coordinator: in `{url}` the object {path} \
                 has another content than the coordinator wrote"
            )));
        }
        None => {
            return Err(StoreUrlError::NotShared(format!(
                "the worker reads another store than the coordinator: in `{url}` it does not find \
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
    match found {
        Some(found) if found == reversed(content) => Ok(()),
        Some(_) => Err(StoreUrlError::NotShared(format!(
            "the worker writes another store than the coordinator: in `{url}` the object \
             {reply_path} has another content than the worker's reply"
        ))),
        None => Err(StoreUrlError::NotShared(format!(
            "the worker writes another store than the coordinator: in `{url}` its reply \
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
        url: url.to_owned(),
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
        url: url.to_owned(),
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
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn urls_and_paths() {
        let path = |url: &str| open(url).unwrap().1.to_string();
        assert_eq!(path("file:///a/b"), "a/b");
        assert_eq!(path("file:/a/b"), "a/b");
        assert_eq!(path("/a/./c/../b"), "a/b");
        assert_eq!(path("/with space/x#y"), "with space/x#y");
        assert_eq!(path("file:///with%20space"), "with space");
        assert_eq!(path("memory://name/a/b"), "a/b");
        assert_eq!(path("s3://bucket/a/b"), "a/b");
        assert_eq!(path("http://127.0.0.1:9/a/b.csv"), "a/b.csv");
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(format!("/{}", path("x")), here.to_str().unwrap());
        assert_eq!(local_path("file:///a/b"), Some(PathBuf::from("/a/b")));
        assert_eq!(local_path("a"), Some(PathBuf::from("a")));
        assert_eq!(local_path("s3://a/b"), None);
        assert!(is_http("https://a/b") && !is_http("http-data/b"));
        assert!(is_memory("memory://a") && !is_memory("/memory"));
    }

    #[test]
    fn bad_urls_are_named_with_what_is_accepted() {
        for (url, reason) in [
            ("", "an empty URL"),
            ("ftp://host/a", "unknown scheme `ftp`"),
            ("file://relative/a", "three slashes"),
            ("s3:///a", "no bucket"),
            ("http://host/a?b=c", "a query"),
            ("http://[::1/a", "not a URL"),
        ] {
            let message = open(url).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
            assert!(message.contains(&format!("`{url}`")), "{message}");
            assert!(message.contains("s3://bucket/path"), "{message}");
        }
    }

    #[test]
    fn settings_are_known_by_name() {
        for name in ["AWS_REGION", "GOOGLE_BUCKET", "AZURE_STORAGE_ACCOUNT_NAME"] {
            assert!(is_setting(name), "{name}");
        }
        for name in ["AWS_REGIO", "GOOGLE_", "AZURE", "REGION", "aws_region", ""] {
            assert!(!is_setting(name), "{name}");
        }
    }

    #[tokio::test]
    async fn memory_stores_are_shared_by_name() {
        let (a, path) = open("memory://store-url-a/x").unwrap();
        a.put(&path, "1".into()).await.unwrap();
        let (again, path) = open("memory://store-url-a/x").unwrap();
        assert_eq!(again.get(&path).await.unwrap().bytes().await.unwrap(), "1");
        let (other, path) = open("memory://store-url-b/x").unwrap();
        let error = other.get(&path).await.unwrap_err();
        assert_eq!(describe(&error), "no such object: x");
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_an_error_soon() {
        // Nothing listens on port 1.
        let started = Instant::now();
        let url = "http://127.0.0.1:1/data.csv";
        let (store, path) = open(url).unwrap();
        let error = describe(&store.get(&path).await.unwrap_err());
        assert!(error.contains("127.0.0.1:1"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    /// Answers each connection with the next reply, and gives the requests.
    fn serve(replies: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        use std::io::{BufRead, BufReader, Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = std::thread::spawn(move || {
            let answer = |reply: &&str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
                }
                let head = head.to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
                reader.read_exact(&mut body).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
                head
            };
            replies.iter().map(answer).collect()
        });
        (address, serving)
    }

    /// A manifest is created only if there is none: S3 is asked so, and its refusal is understood.
    #[tokio::test]
    async fn s3_creates_conditionally_at_an_endpoint_of_the_environment() {
        let (address, serving) = serve(&[
            "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ]);
        let variables = [
            ("AWS_ENDPOINT", format!("http://{address}")),
            ("AWS_ACCESS_KEY_ID", "id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "key".to_owned()),
            ("HOME", "/".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let url = Url::parse("s3://bucket/job").unwrap();
        let store = s3(&url, variables.into_iter()).unwrap();
        let put = async || {
            let path = Path::from("job/one.json");
            let create = object_store::PutOptions::from(object_store::PutMode::Create);
            store.put_opts(&path, "{}".into(), create).await
        };
        put().await.unwrap();
        let again = put().await.unwrap_err();
        assert!(
            matches!(again, object_store::Error::AlreadyExists { .. }),
            "{again}"
        );
        for request in serving.join().unwrap() {
            assert!(request.starts_with("put /bucket/job/one.json"), "{request}");
            assert!(request.contains("if-none-match: *"), "{request}");
        }
    }

    #[tokio::test]
    async fn plain_http_servers_can_be_read() {
        let (address, serving) = serve(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\na,b\n",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ]);
        let (store, path) = open(&format!("http://{address}/x/data.csv")).unwrap();
        let content = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(content, "a,b\n");
        let error = store.get(&path).await.unwrap_err();
        assert!(describe(&error).starts_with("no such object: "), "{error}");
        let requests = serving.join().unwrap();
        assert!(requests[0].starts_with("get /x/data.csv"), "{requests:?}");
    }

    #[tokio::test]
    async fn probes() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared").display().to_string();
        let own = folder.path().join("own").display().to_string();
        for url in [&shared, "memory://store-url-probe/job"] {
            write_probe(url, "probes/1", "héllo").await.unwrap();
            check_probe(url, "probes/1", "héllo", "probes/1-reply")
                .await
                .unwrap();
            check_reply(url, "probes/1", "héllo", "probes/1-reply")
                .await
                .unwrap();
            let error = check_reply(url, "probes/1", "héllo", "probes/1-reply").await;
            assert!(error.is_err(), "probe objects are removed");
        }
        write_probe(&shared, "p", "abc").await.unwrap();
        let message = |result: Result<(), StoreUrlError>| result.unwrap_err().to_string();
        let missing = message(check_probe(&own, "p", "abc", "r").await);
        assert!(missing.contains("the worker reads another store than the coordinator"));
        assert!(
            missing.contains(&own) && missing.contains("does not find p"),
            "{missing}"
        );
        let changed = message(check_probe(&shared, "p", "abd", "r").await);
        assert!(changed.contains("another content"), "{changed}");
        let unanswered = message(check_reply(&shared, "p", "abc", "r").await);
        assert!(
            unanswered.contains("the worker writes another store"),
            "{unanswered}"
        );
    }
}
