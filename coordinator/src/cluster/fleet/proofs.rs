//! Proofs of stores: a worker that has not shown that it can use a job's store gets nothing of the job.

use trainyard_common::ids::{JobId, WorkerId};

use crate::cluster::Machine;
use crate::cluster::api::Effect;
use crate::cluster::model::Proof;

impl Machine {
    /// Asks a worker to prove a store, unless it was asked or may not be asked again yet.
    pub(in crate::cluster) fn ask_proof(&mut self, id: &WorkerId, url: &str, job: &JobId) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        let Some(session) = worker.session else {
            return;
        };
        let tries = match worker.stores.get(url) {
            Some(Proof::Failed {
                retry_ms, tries, ..
            }) if *retry_ms <= now => tries.saturating_add(1),
            None => 1,
            Some(_) => return,
        };
        self.probes += 1;
        let path = format!("probes/{}-{}-{id}", self.term, self.probes);
        let until_ms = now + self.config.probe_timeout_ms;
        let asked = Proof::Asked {
            path: path.clone(),
            until_ms,
            tries,
        };
        worker.stores.insert(url.to_owned(), asked);
        self.refresh_store(id, url);
        self.wake_at(until_ms);
        self.draft.step.effects.push(Effect::Probe {
            worker: id.clone(),
            session,
            url: url.to_owned(),
            content: format!("{job} {path} {now}"),
            reply_path: format!("{path}.reply"),
            path,
        });
    }

    pub(in crate::cluster) fn store_probed(
        &mut self,
        id: &WorkerId,
        path: &str,
        error: Option<String>,
    ) {
        let retry_ms = self.now + self.config.probe_retry_ms;
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        let asked = worker
            .stores
            .iter_mut()
            .find_map(|(url, proof)| match proof {
                Proof::Asked {
                    path: known, tries, ..
                } if known.as_str() == path => Some((url.clone(), *tries, proof)),
                _ => None,
            });
        let Some((url, tries, proof)) = asked else {
            return;
        };
        match error {
            None => *proof = Proof::Proven,
            Some(error) => {
                *proof = Proof::Failed {
                    error,
                    retry_ms,
                    tries,
                };
                self.wake_at(retry_ms);
            }
        }
        self.refresh_store(id, &url);
        self.dirty = true;
    }

    pub(in crate::cluster) fn expire_probes(&mut self) {
        let (now, retry_ms) = (self.now, self.now + self.config.probe_retry_ms);
        let waited = self.config.probe_timeout_ms;
        let proofs = self
            .workers
            .values_mut()
            .flat_map(|w| w.stores.values_mut());
        for proof in proofs {
            if let Proof::Asked {
                until_ms, tries, ..
            } = *proof
                && until_ms <= now
            {
                let error = format!("no answer to the probe within {waited} ms");
                *proof = Proof::Failed {
                    error,
                    retry_ms,
                    tries,
                };
                self.workers_changed = true;
            }
        }
    }
}
