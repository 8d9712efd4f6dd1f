//! The store on real etcd: the suite of all stores, and what only etcd has.

use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use trainyard_common::testing::EtcdCluster;

use super::super::conformance;
use super::*;

/// A cluster, a folder for objects, and a prefix for each store that is asked for.
struct Place {
    cluster: EtcdCluster,
    folder: TempDir,
    number: AtomicU32,
}

impl Place {
    fn new(test: &str, members: usize) -> Option<Self> {
        Some(Self {
            cluster: EtcdCluster::start(test, members)?,
            folder: tempfile::tempdir().unwrap(),
            number: AtomicU32::new(0),
        })
    }

    /// Of a cluster that nobody has used yet.
    fn settings(&self) -> EtcdSettings {
        let url = self.folder.path().join("objects").display().to_string();
        let mut settings = EtcdSettings::new(self.cluster.endpoints(), url);
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        settings.prefix = format!("/test-{number}/");
        settings
    }

    async fn fresh(&self) -> EtcdStore {
        EtcdStore::connect(self.settings()).await.unwrap()
    }
}

#[tokio::test]
async fn etcd_conforms() {
    let Some(place) = Place::new("etcd_conforms", 1) else {
        return;
    };
    Box::pin(conformance::suite(async || place.fresh().await)).await;
}

#[tokio::test]
async fn etcd_of_three_members_conforms() {
    let Some(place) = Place::new("etcd_of_three_members_conforms", 3) else {
        return;
    };
    Box::pin(conformance::suite(async || place.fresh().await)).await;
}
