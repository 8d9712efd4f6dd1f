//! Tests of the machine: each rule by itself, and all of them under a seeded simulation.

mod asha;
mod aside;
mod bound;
mod choosing;
mod extend;
mod failures;
mod found;
mod goals;
mod identity;
mod judging;
mod leave;
mod limits;
mod logical;
mod membership;
mod moved;
mod pause;
mod placement;
mod points;
mod population;
mod programs;
mod purity;
mod reports;
mod retry;
mod rules;
mod simulation;
mod slots;
mod thinking;
mod vacate;
mod workspaces;

use core::net::{IpAddr, Ipv4Addr};
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{JobId, RequestId, Term, TrialId};
use trainyard_common::spec::Document;

use crate::cluster::Machine;
use crate::cluster::api::{
    Assignment, Effect, Event, MachineConfig, Point, Rejection, Report, ReportBody, Step, ToWorker,
};
use crate::cluster::model::{Key, Outcome, RankRef, Record, SecretDigest, SessionId, WorkerInfo};
use crate::cluster::view::replay::awake;

fn config() -> MachineConfig {
    MachineConfig {
        lease_ms: 10_000,
        heartbeat_ms: 1_000,
        replay_grace_ms: 2_000,
        probe_retry_ms: 3_000,
        gang_wait_ms: 20_000,
        reserve_ms: 30_000,
        ..MachineConfig::default()
    }
}

/// A job that runs a program, with further lines of YAML.
fn program(name: &str, trials: u32, more: &str) -> Document {
    let text = format!(
        "name: {name}\nentrypoint: {{command: [train]}}\n\
         hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}\n\
         objectives: [{{metric: loss, mode: minimize}}]\n{more}\n"
    );
    let text = if more.contains("searcher:") {
        text
    } else {
        format!("{text}searcher: {{name: random, max_trials: {trials}}}\n")
    };
    Document::parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// A job of the built-in trainer with a test part.
fn network(name: &str, seed: u64) -> Document {
    network_with(name, seed, "")
}

/// [`network`] with further lines of YAML.
fn network_with(name: &str, seed: u64, more: &str) -> Document {
    let text = format!(
        "name: {name}\nseed: {seed}\n\
         data: {{train: {{csv: {{url: 'file:///d.csv', targets: [4]}}}}, shape: [4], classes: 2}}\n\
         split: {{validation: 0.2, test: 0.2}}\n\
         model: {{layers: [{{dense: {{units: 2, activation: softmax}}}}]}}\n\
         training: {{epochs: 3, optimizer: {{sgd: {{learning_rate: '${{x}}'}}}}}}\n\
         hyperparameters: {{x: {{type: double, minval: 0.1, maxval: 0.4, count: 4}}}}\n\
         objectives: [{{metric: validation_loss, mode: minimize}}]\nsearcher: {{name: grid}}\n{more}\n"
    );
    Document::parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// A worker of one slot that has just come.
pub(super) fn bare_worker(name: &str, session: Option<SessionId>) -> super::model::Worker {
    let mut machine = Machine::new(Term(1), config());
    machine.apply(1, joined(name, 1, 1, vec![])).unwrap();
    let mut found = machine.workers.remove(&name.into()).unwrap();
    found.session = session;
    found
}

/// A job with this number and priority that has not begun.
pub(super) fn bare_job(number: u64, priority: i32) -> super::model::Job {
    let mut machine = Machine::new(Term(1), config());
    let submitted = machine.apply(1, submit("request", program("job", 1, "")));
    submitted.unwrap();
    let mut job = machine.jobs.remove(&JobId("job-1".to_owned())).unwrap();
    job.record.job = JobId(format!("job-{number}"));
    job.record.number = number;
    job.record.priority = priority;
    job
}

fn submit(request: &str, document: Document) -> Event {
    Event::Submit {
        request: RequestId(request.to_owned()),
        document: Box::new(document),
    }
}

fn worker(name: &str, slots: usize) -> WorkerInfo {
    WorkerInfo {
        worker: name.into(),
        host: format!("host-{}", name.len() % 2),
        version: "0".to_owned(),
        devices: vec!["cpu".to_owned(); slots],
        collective_address: format!("{name}:1"),
        cpu_kind: "kind".to_owned(),
        programs: true,
    }
}

/// Of all workers here, whose names differ.
const SECRET: SecretDigest = SecretDigest([7; 32]);

/// From where they speak.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn joined(name: &str, slots: usize, session: u64, running: Vec<RankRef>) -> Event {
    Event::WorkerJoined {
        info: worker(name, slots),
        secret: Some(SECRET),
        peer: Some(PEER),
        session: SessionId(session),
        running,
        term: Term(1),
    }
}

fn ended(outcome: Outcome, error: &str) -> ReportBody {
    ReportBody::Ended {
        outcome,
        error: error.to_owned(),
        step: 0,
        test_metrics: vec![("test_loss".to_owned(), 0.5)],
    }
}

fn epoch(step: u64, metric: &str, value: f64) -> ReportBody {
    ReportBody::Progress(Point {
        step,
        epoch: step,
        metrics: vec![(metric.to_owned(), value)],
        end_of_epoch: true,
        epochs_from_zero: false,
        time_ms: 0,
    })
}

fn checkpoint(at: &RankRef, step: u64, metric: &str, value: f64) -> CheckpointRef {
    CheckpointRef {
        manifest: format!(
            "trials/{}/{step:012}-{}.json",
            at.at.trial, at.at.generation
        ),
        step,
        epoch: step,
        bytes: 1,
        digest: "d".to_owned(),
        metrics: vec![(metric.to_owned(), value)],
    }
}

/// A machine with a clock, whose workers prove every store at once.
struct Bench {
    machine: Machine,
    now: u64,
    sequence: u64,
    /// Whether probes succeed.
    shared: bool,
    /// Whether searchers answer at once.
    computes: bool,
    /// What was told to be stored, by key.
    stored: std::collections::BTreeMap<Key, Record>,
}

impl Bench {
    fn new() -> Self {
        Self {
            machine: Machine::new(Term(1), config()),
            now: 1_000,
            sequence: 0,
            shared: true,
            computes: true,
            stored: std::collections::BTreeMap::new(),
        }
    }

    /// As the services ask: a search that rests is woken first.
    fn ask(&mut self, event: Event) -> Result<Step, Rejection> {
        let mut answer = self.machine.apply(self.now, event.clone());
        if let Err(Rejection::Asleep(job)) = &answer {
            let wake = self.awake(job);
            self.machine.apply(self.now, wake)?;
            answer = self.machine.apply(self.now, event);
        }
        let step = answer?;
        let records = step.records.iter();
        let records = records.map(|record| (record.key(), record.clone()));
        self.stored.extend(records);
        step.removed.iter().for_each(|key| {
            self.stored.remove(key);
        });
        Ok(step)
    }

    /// A resting search as what is stored tells it.
    fn awake(&self, job: &JobId) -> Event {
        let (mut log, mut params) = (Vec::new(), std::collections::BTreeMap::new());
        for record in self.stored.values() {
            match record {
                Record::Search(record) if record.job == *job => log.push(record.entry.clone()),
                Record::Trial(trial) if trial.job == *job => {
                    params.insert(trial.trial, trial.suggested_params().clone());
                }
                _ => {}
            }
        }
        let document = self.machine.shared_document(job).unwrap();
        let search = awake(&document, &log, |trial| params.get(&trial)).unwrap();
        let (job, search) = (job.clone(), Box::new(search));
        Event::Wake { job, search }
    }

    fn apply(&mut self, event: Event) -> Step {
        let mut step = self.ask(event).unwrap();
        let probes: Vec<Event> = step
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Probe { worker, path, .. } => Some(Event::StoreProbed {
                    worker: worker.clone(),
                    path: path.clone(),
                    error: (!self.shared).then(|| "not found".to_owned()),
                }),
                Effect::Search { job, ticket, task } if self.computes => Some(Event::Searched {
                    job: job.clone(),
                    ticket: *ticket,
                    computed: task.clone().run(),
                }),
                _ => None,
            })
            .collect();
        for probe in probes {
            let more = self.apply(probe);
            step.records.extend(more.records);
            step.removed.extend(more.removed);
            step.points.extend(more.points);
            step.decisions.extend(more.decisions);
            step.effects.extend(more.effects);
        }
        step
    }

    fn later(&mut self, ms: u64) -> Step {
        self.now += ms;
        self.apply(Event::Tick)
    }

    fn report(&mut self, session: u64, rank: &RankRef, body: ReportBody) -> Step {
        self.reports(session, rank, vec![body])
    }

    /// In one message, so that they are decided together.
    fn reports(&mut self, session: u64, rank: &RankRef, bodies: Vec<ReportBody>) -> Step {
        let numbered = (self.sequence + 1..).zip(bodies);
        let reports: Vec<Report> = numbered
            .map(|(sequence, body)| Report {
                sequence,
                rank: rank.clone(),
                time_ms: 0,
                body,
            })
            .collect();
        self.sequence += reports.len() as u64;
        self.apply(Event::Reports {
            session: SessionId(session),
            reports,
        })
    }
}

fn assigned(step: &Step) -> Vec<&Assignment> {
    let assigned = step.effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            message: ToWorker::Assign(assignment),
            ..
        } => Some(assignment.as_ref()),
        _ => None,
    });
    assigned.collect()
}

fn rank_of(assignment: &Assignment) -> RankRef {
    RankRef {
        at: assignment.at.clone(),
        rank: assignment.rank,
    }
}

fn ranks(step: &Step) -> Vec<RankRef> {
    assigned(step).into_iter().map(rank_of).collect()
}
