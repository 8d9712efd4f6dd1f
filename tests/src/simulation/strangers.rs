//! Processes that are not who they say: one registers under the id of another, one tells reports of what
//! another runs. Nothing may come of it while the other's lease runs.

use trainyard_common::ids::Generation;
use trainyard_coordinator::cluster::api::{Event, LogText, Point, Report, ReportBody, Step};
use trainyard_coordinator::cluster::model::{AttemptRecord, Outcome, RankRef, Record, SessionId};

use super::batch::Batch;
use super::coordinator::Leader;
use super::stats::Hit;
use super::turn::Input;
use super::worker::Worker;
use super::world::{Due, World};

/// How often one who is refused tries again.
pub(super) const TRIES: u32 = 3;

/// What there was of workers before one joined: who is connected, drains and holds how many slots.
type Known = Vec<(String, bool, bool, u32)>;

impl World {
    /// A process registers under the id of another, which may be gone, and says that it runs what that does.
    pub(super) fn impostor(&mut self) {
        let known = self.workers.iter().enumerate();
        let known: Vec<usize> = known.filter(|(_, w)| !w.impostor).map(|(w, _)| w).collect();
        let busy = self.workers.iter().any(|w| w.impostor && w.alive);
        if known.is_empty() || busy {
            return;
        }
        let victim = known[self.below(known.len() as u64) as usize];
        let secret = self.below(3) != 0;
        let w = self.workers.len();
        let impostor = Worker::impostor(w, &self.workers[victim], secret);
        self.say(|| format!("w{w}"), || format!("pretends to be w{victim}"));
        self.workers.push(impostor);
        self.after(1, Due::Connect(w));
    }

    /// Workers as they are before one joins under an id that is another's; `None`: it is its own, or nobody's,
    /// or who leads knows no better.
    pub(super) fn before_join(&self, leader: &Leader, w: usize) -> Option<Known> {
        let joins = &self.workers[w];
        let owner = leader.joined.get(&joins.id).or(self.owners.get(&joins.id));
        // Two that have no secret cannot be told apart.
        let others = owner.is_some_and(|owner| {
            *owner != w && (joins.has_secret() || self.workers[*owner].has_secret())
        });
        (others && leader.term == self.store.term).then(|| known(leader))
    }

    /// A join is durable: the id is the process's own.
    pub(super) fn owns(&mut self, w: usize) {
        let id = self.workers[w].id.clone();
        self.owners.insert(id, w);
    }

    /// What came of it.
    pub(super) fn check_join(&mut self, leader: &Leader, w: usize, before: &Known, taken: bool) {
        let id = self.workers[w].id.0.clone();
        if taken {
            self.stats.hit(Hit::ImpostorTakenIn);
            if before.iter().any(|(known, ..)| *known == id) {
                self.violated(format!(
                    "a stranger has taken the place of {id}: {before:?}"
                ));
            }
            return;
        }
        self.stats.hit(Hit::ImpostorRefused);
        let after = known(leader);
        if after != *before {
            self.violated(format!(
                "a stranger under the id of {id} was refused, and {before:?} became {after:?}"
            ));
        }
    }

    /// A process tells a report or a line of another's rank, under its next number, and is killed.
    pub(super) fn liar(&mut self, w: usize) {
        let own = self.workers[w].link;
        let link = own.and_then(|id| self.links.get(&id));
        let Some((n, Some(session))) = link.map(|link| (link.node, link.session)) else {
            return;
        };
        // A session of an earlier leader may be another's by now.
        let leader = self.nodes[n].leader.as_ref();
        if leader.and_then(|leader| leader.sessions.get(&session)) != own.as_ref() {
            return;
        }
        let others = self.workers.iter().enumerate();
        let others = others.filter(|(_, other)| other.alive && other.id != self.workers[w].id);
        let ranks = others.flat_map(|(_, worker)| worker.runs.values());
        let ranks: Vec<RankRef> = ranks.map(|run| run.rank.clone()).collect();
        if ranks.is_empty() {
            return;
        }
        let rank = ranks[self.below(ranks.len() as u64) as usize].clone();
        let Some(attempt) = self.store.attempt(&rank.at) else {
            return;
        };
        let known = attempt.ranks.get(rank.rank as usize);
        let sequence = known.map_or(0, |known| known.applied) + 1;
        let line = known.map_or(0, |known| known.logged) + 1;
        let step = attempt.step + 1;
        let told = self.below(3);
        let body = match told {
            0 => ReportBody::Progress(Point {
                step,
                epoch: step,
                metrics: vec![("loss".to_owned(), 0.0)],
                end_of_epoch: true,
                epochs_from_zero: false,
                time_ms: 0,
            }),
            _ => ReportBody::Ended {
                outcome: Outcome::Completed,
                error: String::new(),
                step,
                test_metrics: Vec::new(),
            },
        };
        self.stats.hit(Hit::Lied);
        let report = Report {
            sequence,
            rank: rank.clone(),
            time_ms: 0,
            body,
        };
        let lie = match told {
            2 => lines_of(session, rank.clone(), line),
            _ => Event::Reports {
                session,
                reports: vec![report],
            },
        };
        self.input(n, Input::Lie(session, lie, rank));
        self.exit(w, true);
    }

    /// A lie has been heard: of whom it was told it changes nothing.
    pub(super) fn check_lie(&mut self, term: u64, rank: &RankRef, step: &Step, batch: &Batch) {
        // What a deposed leader decides on is not what is stored.
        if term != self.store.term {
            return;
        }
        let told = |attempt: &AttemptRecord| (attempt.ranks.clone(), attempt.outcome, attempt.step);
        let attempt = |record: &Record| match record {
            Record::Attempt(attempt) if super::store::reference(attempt) == rank.at => {
                Some(told(attempt))
            }
            _ => None,
        };
        let new = step.records.iter().find_map(attempt);
        let old = batch.records.values().find_map(attempt);
        let old = old.or_else(|| self.store.attempt(&rank.at).map(told));
        if !step.points.is_empty() || !step.logs.is_empty() || (new.is_some() && new != old) {
            self.violated(format!(
                "another than its worker told of {rank:?}, and {old:?} became {new:?}"
            ));
        }
    }
}

fn known(leader: &Leader) -> Known {
    let lost = trainyard_coordinator::cluster::api::WorkerState::Lost;
    let workers = leader.machine.workers().into_iter();
    let workers = workers.filter(|worker| worker.state != lost);
    let told = workers.map(|worker| {
        let id = worker.worker.0.clone();
        (id, worker.connected, worker.draining, worker.slots_used)
    });
    told.collect()
}

/// A line of a rank, as the wire has it: without a generation.
fn lines_of(session: SessionId, mut rank: RankRef, first: u64) -> Event {
    rank.at.generation = Generation(0);
    Event::Logs {
        session,
        rank,
        first,
        lines: vec![LogText {
            time_ms: 0,
            level: "info".to_owned(),
            text: "forged".to_owned(),
        }],
    }
}
