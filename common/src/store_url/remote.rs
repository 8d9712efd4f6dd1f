//! Stores and servers behind a network: S3, Google Cloud Storage, Azure, plain HTTP.

use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::{StoreUrlError, describe, redacted};

/// A host that does not answer a connection attempt within this time is away.
const CONNECT_TIMEOUT: &str = "3 seconds";
/// One request with its body: at the part size of checkpoints, about 280 KB/s.
const REQUEST_TIMEOUT: &str = "30 seconds";
/// With the connect timeout: an address that swallows packets is given up after about 13 seconds.
const MAX_RETRIES: usize = 3;
/// No request is tried again once this much time has gone.
const RETRY_TIMEOUT: Duration = Duration::from_secs(12);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
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

/// The store of a bucket, container or web server, and the path within it.
pub(super) fn open(url: &Url, given: &str) -> Result<(Arc<dyn ObjectStore>, Path), StoreUrlError> {
    let bad = |reason: String| StoreUrlError::Url {
        url: redacted(given).into_owned(),
        reason,
    };
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("no bucket, container or host".to_owned()));
    }
    if url.query().is_some() {
        return Err(bad("a query (`?...`) is not supported".to_owned()));
    }
    let path = Path::from_url_path(url.path()).map_err(|error| bad(error.to_string()))?;
    choose_cryptography();
    let built: Result<Arc<dyn ObjectStore>, object_store::Error> = match url.scheme() {
        "s3" | "s3a" => s3(url, environment()),
        "gs" => google(url),
        "az" => azure(url),
        _ => http(url),
    };
    let store = built.map_err(|error| StoreUrlError::Settings {
        url: redacted(given).into_owned(),
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

/// The one implementation of cryptography for TLS in this process. The HTTP client is built without a
/// default of its own, whose C library takes longer to compile than everything else of it together.
fn choose_cryptography() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        // An error says that the program has chosen already.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use object_store::ObjectStoreExt;

    use super::{Path, Url, describe, is_setting, s3};
    use crate::store_url::open;

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
    async fn a_store_that_is_away_is_an_error_soon() {
        // Nothing listens on port 1.
        let started = Instant::now();
        let url = "http://127.0.0.1:1/data.csv";
        let (store, path) = open(url).unwrap();
        let error = describe(&store.get(&path).await.unwrap_err());
        assert!(error.contains("127.0.0.1:1"), "{error}");
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
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
}
