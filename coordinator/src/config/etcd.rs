//! The settings of a coordinator that keeps its records in etcd: their validation.

use trainyard_common::config::ConfigError;
use trainyard_common::store_url;
use url::Url;

use super::CoordinatorConfig;

/// Prefix of every key in etcd where nothing else is said.
pub(super) const DEFAULT_PREFIX: &str = "/trainyard/";

/// etcd's own default of `--quota-backend-bytes`.
pub(super) const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Leases of etcd have whole seconds, and at least two with its default election timeout.
const LEASE_RANGE_MS: std::ops::RangeInclusive<u32> = 2_000..=60_000;

/// How long a take-over may take beyond twice the leader's lease: one of them runs out, another is what
/// etcd itself adds where its own leader dies at the same moment, with its election and a slow start.
const TAKE_OVER_MARGIN_MS: u32 = 5_000;

/// Longest time that reports may wait for others, milliseconds: workers' buffers hold more.
const MAX_FLUSH_MS: u32 = 10_000;

/// Longest prefix, bytes.
const MAX_PREFIX_BYTES: usize = 128;

/// Smallest quota that makes sense, bytes.
const MIN_QUOTA_BYTES: u64 = 16 * 1024 * 1024;

impl CoordinatorConfig {
    /// Where the segment objects of series lie when records are in etcd.
    pub fn segment_url(&self) -> Option<String> {
        let below = |url: &String| format!("{}/trainyard-series", url.trim_end_matches('/'));
        let default = || self.checkpoint_url.as_ref().map(below);
        self.segment_url.clone().or_else(default)
    }

    pub(super) fn validate_etcd(&self) -> Result<(), ConfigError> {
        if self.segment_flush_ms > MAX_FLUSH_MS {
            let expected = format!("0 to {MAX_FLUSH_MS}");
            return Err(ConfigError::invalid(
                "segment_flush_ms",
                self.segment_flush_ms,
                expected,
            ));
        }
        if self.etcd.is_empty() {
            return Ok(());
        }
        if cfg!(not(feature = "etcd")) {
            return Err(ConfigError::invalid(
                "etcd",
                self.etcd.join(","),
                "nothing: this coordinator was built without etcd support; build it with \
                 `cargo build --release -p trainyard-coordinator --features etcd` (needs protoc)",
            ));
        }
        for endpoint in &self.etcd {
            if !is_endpoint(endpoint) {
                return Err(ConfigError::invalid(
                    "etcd",
                    format!("`{endpoint}`"),
                    "http://host:port or https://host:port of each member, such as \
                     http://etcd-0:2379,http://etcd-1:2379",
                ));
            }
        }
        self.validate_advertise()?;
        self.validate_keys()?;
        self.validate_worker_lease()?;
        self.validate_etcd_access()?;
        self.validate_segments()
    }

    fn validate_advertise(&self) -> Result<(), ConfigError> {
        let told = self.advertise.as_ref().unwrap_or(&self.listen);
        let (host, port) = told.rsplit_once(':').unwrap_or_default();
        let everywhere = matches!(host, "0.0.0.0" | "[::]");
        if everywhere || host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
            let given = self.advertise.as_ref().map(|told| format!("`{told}`"));
            return Err(ConfigError::invalid(
                "advertise",
                given.unwrap_or_else(|| "nothing".to_owned()),
                "with etcd: the host:port at which clients and workers reach this coordinator",
            ));
        }
        Ok(())
    }

    fn validate_keys(&self) -> Result<(), ConfigError> {
        let prefix = &self.etcd_prefix;
        let plain = prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || prefix.len() > MAX_PREFIX_BYTES || !prefix.ends_with('/') {
            let expected =
                format!("at most {MAX_PREFIX_BYTES} letters, digits and signs that end in /");
            return Err(ConfigError::invalid(
                "etcd_prefix",
                format!("`{prefix}`"),
                expected,
            ));
        }
        if !LEASE_RANGE_MS.contains(&self.leader_lease_ms) {
            let (from, to) = (LEASE_RANGE_MS.start(), LEASE_RANGE_MS.end());
            return Err(ConfigError::invalid(
                "leader_lease_ms",
                self.leader_lease_ms,
                format!("{from} to {to}"),
            ));
        }
        if self.etcd_quota_bytes < MIN_QUOTA_BYTES {
            let expected = format!("etcd's --quota-backend-bytes, at least {MIN_QUOTA_BYTES}");
            return Err(ConfigError::invalid(
                "etcd_quota_bytes",
                self.etcd_quota_bytes,
                expected,
            ));
        }
        Ok(())
    }

    /// No worker is lost by a take-over, during which nobody hears it.
    fn validate_worker_lease(&self) -> Result<(), ConfigError> {
        let shortest = 2 * self.leader_lease_ms + TAKE_OVER_MARGIN_MS;
        if self.worker_lease_ms < shortest {
            return Err(ConfigError::invalid(
                "worker_lease_ms",
                self.worker_lease_ms,
                format!(
                    "with etcd: at least {shortest}, what a take-over may take with a leader_lease_ms \
                     of {}",
                    self.leader_lease_ms
                ),
            ));
        }
        Ok(())
    }

    fn validate_etcd_access(&self) -> Result<(), ConfigError> {
        let shown = |path: &Option<std::path::PathBuf>| match path {
            Some(path) => format!("`{}`", path.display()),
            None => "nothing".to_owned(),
        };
        if self.etcd_user.is_some() != self.etcd_password_file.is_some() {
            return Err(ConfigError::invalid(
                "etcd_password_file",
                shown(&self.etcd_password_file),
                "a file with the password of etcd_user: both or neither",
            ));
        }
        if self.etcd_cert_file.is_some() != self.etcd_key_file.is_some() {
            return Err(ConfigError::invalid(
                "etcd_key_file",
                shown(&self.etcd_key_file),
                "the key of etcd_cert_file: both or neither",
            ));
        }
        let secure = self.etcd_ca_file.is_some() || self.etcd_cert_file.is_some();
        if secure && self.etcd.iter().any(|url| !url.starts_with("https://")) {
            return Err(ConfigError::invalid(
                "etcd",
                self.etcd.join(","),
                "https:// addresses alone, where etcd_ca_file or etcd_cert_file is given",
            ));
        }
        Ok(())
    }

    fn validate_segments(&self) -> Result<(), ConfigError> {
        if self.checkpoint_url.is_none() {
            return Err(ConfigError::unusable(
                "checkpoint_url",
                "missing (--checkpoint-url); with etcd it is needed: an object store or folder that all \
                 machines share, such as s3://bucket/path",
            ));
        }
        let Some(url) = self.segment_url() else {
            return Ok(());
        };
        if store_url::is_memory(&url) || store_url::is_http(&url) {
            return Err(ConfigError::invalid(
                "segment_url",
                format!("`{url}`"),
                "with etcd: a store that every coordinator can write, such as s3://bucket/path",
            ));
        }
        store_url::open(&url)
            .map_err(|error| ConfigError::unusable("segment_url", error.to_string()))?;
        Ok(())
    }
}

/// A scheme, a host and a port, and nothing else.
fn is_endpoint(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "etcd"))]
    #[test]
    fn without_the_feature_etcd_is_refused_with_how_to_build_it() {
        let config = CoordinatorConfig {
            etcd: vec!["http://127.0.0.1:2379".to_owned()],
            ..CoordinatorConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("--features etcd"), "{error}");
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn bad_settings_of_etcd_are_named() {
        let good = CoordinatorConfig {
            etcd: vec!["http://a:2379".to_owned(), "http://[::1]:2379".to_owned()],
            checkpoint_url: Some("s3://bucket/path/".to_owned()),
            ..CoordinatorConfig::default()
        };
        let below = "s3://bucket/path/trainyard-series".to_owned();
        assert_eq!(good.segment_url(), Some(below));
        let shared = CoordinatorConfig {
            checkpoint_url: Some("/shared/checkpoints".to_owned()),
            ..good.clone()
        };
        shared.validate().unwrap();
        type Edit = fn(&mut CoordinatorConfig);
        let cases: [(&str, Edit); 17] = [
            ("etcd", |c| c.etcd.push("b:2379".to_owned())),
            ("etcd", |c| c.etcd.push("http://a:2379/x".to_owned())),
            ("etcd", |c| c.etcd.push(String::new())),
            ("etcd", |c| c.etcd_ca_file = Some("ca.pem".into())),
            ("etcd_prefix", |c| c.etcd_prefix = "/a".to_owned()),
            ("etcd_prefix", |c| c.etcd_prefix = "/a b/".to_owned()),
            ("advertise", |c| c.listen = "0.0.0.0:7070".to_owned()),
            ("advertise", |c| c.advertise = Some("http://a:1".to_owned())),
            ("leader_lease_ms", |c| c.leader_lease_ms = 1_000),
            ("worker_lease_ms", |c| c.worker_lease_ms = 10_000),
            ("worker_lease_ms", |c| c.leader_lease_ms = 30_000),
            ("etcd_quota_bytes", |c| c.etcd_quota_bytes = 2),
            ("etcd_password_file", |c| c.etcd_user = Some("u".to_owned())),
            ("etcd_key_file", |c| c.etcd_cert_file = Some("c.pem".into())),
            ("checkpoint_url", |c| c.checkpoint_url = None),
            ("segment_url", |c| {
                c.segment_url = Some("memory://a".to_owned())
            }),
            ("segment_flush_ms", |c| c.segment_flush_ms = 60_000),
        ];
        for (field, edit) in cases {
            let mut config = shared.clone();
            edit(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
    }
}
