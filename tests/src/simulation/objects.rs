//! The model object store: checkpoints by manifest, those that were deleted or can no longer be read, and
//! the times at which it fails or is slow.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    Whole,
    /// A part of it is gone or changed.
    Corrupt,
    Deleted,
}

#[derive(Default)]
pub(super) struct Objects {
    /// Everything that was ever whole.
    manifests: BTreeMap<JobId, BTreeMap<String, Object>>,
    /// Nothing can be written until then.
    pub(super) fails_until: u64,
    pub(super) slow_until: u64,
    /// Jobs of which an attempt gave up for want of the object store.
    wasted: BTreeSet<JobId>,
}

impl Objects {
    fn get(&self, job: &JobId, manifest: &str) -> Option<Object> {
        self.manifests.get(job)?.get(manifest).copied()
    }

    /// Whether it was whole once.
    pub(super) fn existed(&self, job: &JobId, manifest: &str) -> bool {
        self.get(job, manifest).is_some()
    }

    pub(super) fn readable(&self, job: &JobId, manifest: &str) -> bool {
        self.get(job, manifest) == Some(Object::Whole)
    }

    /// Whether the keep rule, or a person, has deleted it.
    pub(super) fn deleted(&self, job: &JobId, manifest: &str) -> bool {
        self.get(job, manifest) == Some(Object::Deleted)
    }

    /// Whether one whose name begins so is there and can no longer be read.
    pub(super) fn any_corrupt(&self, job: &JobId, prefix: &str) -> bool {
        let mut known = self.manifests.get(job).into_iter().flatten();
        known.any(|(name, object)| name.starts_with(prefix) && *object == Object::Corrupt)
    }

    /// False: it was there already.
    pub(super) fn written(&mut self, job: &JobId, manifest: &str) -> bool {
        let known = self.manifests.entry(job.clone()).or_default();
        known.insert(manifest.to_owned(), Object::Whole).is_none()
    }

    fn set(&mut self, job: &JobId, manifest: &str, object: Object) {
        let known = self.manifests.get_mut(job);
        if let Some(known) = known.and_then(|known| known.get_mut(manifest)) {
            *known = object;
        }
    }

    pub(super) fn delete(&mut self, job: &JobId, manifest: &str) {
        self.set(job, manifest, Object::Deleted);
    }

    pub(super) fn delete_all(&mut self, job: &JobId) {
        let known = self.manifests.get_mut(job);
        let known = known.into_iter().flat_map(BTreeMap::values_mut);
        known.for_each(|object| *object = Object::Deleted);
    }

    /// One of the job's checkpoints can no longer be read; which of them, a draw below their number
    /// says. False: it has none.
    pub(super) fn corrupt(&mut self, job: &JobId, draw: impl FnOnce(u64) -> u64) -> bool {
        let Some(known) = self.manifests.get_mut(job) else {
            return false;
        };
        let whole = known
            .values_mut()
            .filter(|object| **object == Object::Whole);
        let mut whole: Vec<&mut Object> = whole.collect();
        if whole.is_empty() {
            return false;
        }
        let which = draw(whole.len() as u64) as usize;
        if let Some(object) = whole.get_mut(which) {
            **object = Object::Corrupt;
        }
        true
    }

    pub(super) fn waste(&mut self, job: JobId) {
        self.wasted.insert(job);
    }

    pub(super) fn wasted(&self, job: &JobId) -> bool {
        self.wasted.contains(job)
    }
}
