//! Searches that rest in their logs, woken as the services do before one is extended.

use std::collections::BTreeMap;

use trainyard_common::ids::JobId;
use trainyard_coordinator::cluster::api::Event;
use trainyard_coordinator::cluster::model::Record;
use trainyard_coordinator::cluster::view::replay::awake;

use super::coordinator::Node;
use super::stats::Hit;
use super::turn::Input;
use super::world::World;

impl World {
    /// Wakes the search of a job by what is stored of it. Who asked asks again.
    pub(super) fn wake(&mut self, job: &JobId) {
        let newest = self.store.term;
        let leads = |node: &Node| node.leader.as_ref().is_some_and(|l| l.term == newest);
        let Some(n) = self.nodes.iter().position(leads) else {
            return;
        };
        let leader = self.nodes[n].leader.as_ref();
        let document = leader.and_then(|leader| leader.machine.shared_document(job));
        let (Some(document), Ok(records)) = (document, self.store.load()) else {
            return;
        };
        let (mut log, mut params) = (BTreeMap::new(), BTreeMap::new());
        for record in records {
            match record {
                Record::Search(record) if record.job == *job => {
                    log.insert(record.index, record.entry);
                }
                Record::Trial(trial) if trial.job == *job => {
                    params.insert(trial.trial, trial.suggested_params().clone());
                }
                _ => {}
            }
        }
        match awake(&document, log.values(), |trial| params.get(&trial)) {
            Ok(search) => {
                self.stats.hit(Hit::Woken);
                let (job, search) = (job.clone(), Box::new(search));
                self.input(n, Input::Tell(None, Event::Wake { job, search }));
            }
            Err(message) => {
                self.violated(format!("the search of {job} cannot be woken: {message}"))
            }
        }
    }
}
