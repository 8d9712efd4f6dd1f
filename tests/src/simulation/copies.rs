//! Members of populations that go on from each other: whose checkpoint an attempt may begin from.

use trainyard_coordinator::cluster::api::Assignment;
use trainyard_coordinator::cluster::model::AttemptKind;

use super::training::WITHIN;
use super::world::World;

impl World {
    /// An attempt of a member is handed out: it begins from the checkpoint of whom its scheduler chose, one
    /// that was there when it did; from one of its own that it has made since; or what it was to copy is lost.
    pub(super) fn check_copies(&mut self, assignment: &Assignment) {
        let at = &assignment.at;
        let Some(view) = self.store.jobs.get(&at.job) else {
            return;
        };
        let decisions = &view.decisions;
        let newest = decisions.scheduler.lineage(at.trial).last();
        let Some(newest) = newest.filter(|_| assignment.kind == AttemptKind::Train) else {
            return;
        };
        let given = assignment.resume_from.as_ref();
        let Some(source) = newest.source else {
            if assignment.copies {
                self.violated(format!(
                    "{at:?} copies {given:?}, and is to go on as it was"
                ));
            }
            return;
        };
        let offered = decisions.offered(at.trial, newest.resource);
        let lost = !offered
            .iter()
            .any(|manifest| self.objects.readable(&at.job, manifest));
        let right = match given {
            Some(given) if assignment.copies => {
                let of_source = format!("trials/{source}/{:012}-", newest.resource);
                given.manifest.starts_with(&of_source)
                    && (lost || offered.contains(&given.manifest))
            }
            Some(given) => {
                let is_since = given.epoch > newest.resource || given.manifest.ends_with(WITHIN);
                is_since || lost
            }
            None => lost,
        };
        let is_other = newest.params != assignment.spec.params;
        if !right || is_other {
            self.violated(format!(
                "{at:?} goes on from {given:?} with {:?}, and was to from {offered:?} of trial {source} with {:?}",
                assignment.spec.params, newest.params
            ));
        }
    }

    /// Whoever goes on from another's checkpoint finds it, unless it broke. What searches came to is counted.
    pub(super) fn heed_decisions(&mut self) {
        let mut unfounded = Vec::new();
        let mut happened = Vec::new();
        for (job, view) in &mut self.store.jobs {
            let clones = view.decisions.unfounded.drain(..);
            unfounded.extend(clones.map(|of| (job.clone(), of)));
            happened.append(&mut view.decisions.happened);
        }
        for hit in happened {
            self.stats.hit(hit);
        }
        for (job, of) in unfounded {
            let prefix = format!("trials/{}/{:012}-", of.trial, of.resource);
            if !self.objects.any_corrupt(&job, &prefix) {
                self.violated(format!("in {job} {of:?} is copied without its checkpoint"));
            }
        }
    }
}
