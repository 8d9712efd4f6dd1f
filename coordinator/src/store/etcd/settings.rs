//! How etcd is reached, and where its keys and the segment objects lie.

use std::path::PathBuf;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use super::super::StoreError;

/// The prefix of every key where nothing else is said.
pub const DEFAULT_PREFIX: &str = "/trainyard/";

/// etcd's own default quota, bytes.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Connects to etcd; all of it checked by the coordinator's configuration.
#[derive(Debug, Clone)]
pub struct EtcdSettings {
    /// `http://host:2379`, one for each member.
    pub endpoints: Vec<String>,
    /// Every key begins with it; ends in `/`.
    pub prefix: String,
    /// Object store of the segments, shared by all coordinators.
    pub segment_url: String,
    /// How long a leader that says nothing stays leader. etcd counts whole seconds, two at least.
    pub lease_ms: u32,
    /// How long after one another objects with items for series come, where nobody waits for them.
    pub flush_ms: u32,
    /// What the leader key tells: who leads, and where it is reached.
    pub identity: String,
    /// etcd's quota (its `--quota-backend-bytes`), for the warning before it is reached.
    pub quota_bytes: u64,
    /// Whether the leader compacts etcd's history: all of it, for etcd knows no other way.
    pub compact: bool,
    pub user: Option<String>,
    /// File with the password of `user`.
    pub password_file: Option<PathBuf>,
    /// PEM file with the authority that signed etcd's certificates.
    pub ca_file: Option<PathBuf>,
    /// PEM files with this client's certificate and key.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl EtcdSettings {
    pub fn new(endpoints: Vec<String>, segment_url: String) -> Self {
        Self {
            endpoints,
            prefix: DEFAULT_PREFIX.to_owned(),
            segment_url,
            lease_ms: 3_000,
            flush_ms: 100,
            identity: String::new(),
            quota_bytes: DEFAULT_QUOTA_BYTES,
            compact: true,
            user: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    /// What errors call this store.
    pub(super) fn name(&self) -> PathBuf {
        PathBuf::from(format!("etcd at {}", self.endpoints.join(",")))
    }

    /// Reads the files that are named. A wrong one is told with its path.
    pub(super) fn options(&self) -> Result<ConnectOptions, StoreError> {
        let mut options = ConnectOptions::new();
        if let Some(user) = &self.user {
            let password = match &self.password_file {
                Some(path) => read(path)?,
                None => Vec::new(),
            };
            let password = String::from_utf8_lossy(&password);
            options = options
                .with_user(user, password.trim_end_matches(['\r', '\n']))
                .with_auto_token_refresh(true);
        }
        if self.ca_file.is_some() || self.cert_file.is_some() {
            let mut tls = TlsOptions::new();
            if let Some(path) = &self.ca_file {
                tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
            }
            if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        Ok(options)
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::Settings {
        what: path.display().to_string(),
        reason: error.to_string(),
    })
}
