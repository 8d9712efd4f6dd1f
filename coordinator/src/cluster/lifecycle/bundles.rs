//! Where the bundles of programs' code lie that jobs name, and whether any still does.

use trainyard_common::bundle;

use crate::cluster::Machine;
use crate::cluster::api::Rejection;
use crate::cluster::model::Job;

impl Machine {
    /// The folder in which bundles of such a job lie.
    ///
    /// # Errors
    /// Where its store is no store that workers can reach.
    pub fn bundle_folder(&self, storage_url: Option<&str>) -> Result<String, Rejection> {
        let url = storage_url.unwrap_or(&self.config.default_checkpoint_url);
        self.reached_by_workers(url)?;
        Ok(self.bundle_folder_in(url))
    }

    /// Whether a job needs the bundle of this URL. Of jobs that cannot be read nobody knows what they need.
    pub fn names_bundle(&self, url: &str) -> bool {
        !self.aside.is_empty()
            || self
                .jobs
                .values()
                .any(|job| self.bundle_of(job).is_some_and(|named| named == url))
    }

    /// Where the job's bundle lies, if it has one.
    pub(in crate::cluster) fn bundle_of(&self, job: &Job) -> Option<String> {
        let digest = job.document.job().entrypoint.as_ref()?.bundle.as_ref()?;
        let folder = self.bundle_folder_in(&job.record.store_url);
        Some(format!("{folder}/{}", bundle::object(digest)))
    }

    fn bundle_folder_in(&self, store_url: &str) -> String {
        // Before the first job is submitted the number that it will have.
        let cluster = match self.counters.cluster {
            0 => self.config.cluster,
            cluster => cluster,
        };
        bundle::folder(store_url, cluster)
    }

    /// Refuses a store that lives in another process than the workers.
    pub(in crate::cluster) fn reached_by_workers(&self, url: &str) -> Result<(), Rejection> {
        if url.starts_with("memory:") && !self.config.single_process {
            return Err(Rejection::MemoryStore {
                url: url.to_owned(),
            });
        }
        Ok(())
    }
}
