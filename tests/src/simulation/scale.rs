//! The machine at the size of a large cluster: its own processor time and memory for each trial and each
//! result, as history grows. No network: workers do what they are told at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{JobId, RequestId, Term, TrialId, WorkerId};
use trainyard_common::spec::Document;
use trainyard_coordinator::cluster::Machine;
use trainyard_coordinator::cluster::api::{
    Assignment, Effect, Event, MachineConfig, Point, Report, ReportBody, Step, ToWorker,
};
use trainyard_coordinator::cluster::model::{
    Outcome, Pulse, RankRef, SecretDigest, SessionId, WorkerInfo,
};

use super::archive::Archive;
use super::clock::cpu_ns;
use super::heap;

/// When it begins, Unix milliseconds.
const BEGIN_MS: u64 = 1_000_000;

/// Trials of a page of answers.
const PAGE: u32 = 100;

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Workers of one slot each.
    pub workers: u32,
    /// Over all jobs.
    pub trials: u32,
    pub jobs: u32,
    /// Of each trial.
    pub ranks: u32,
    /// Over all workers, in virtual time.
    pub results_per_s: u32,
    pub results_per_trial: u32,
    /// Lines of the curve.
    pub rows: u32,
}

/// One line of the curve: what happened since the one before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row {
    /// Trials that have ended, from the beginning.
    pub trials: u32,
    /// Results that were counted, from the beginning.
    pub results: u64,
    pub virtual_s: f64,
    /// Processor time of the machine for each message that only tells a result.
    pub us_per_result: f64,
    /// Processor time of the machine for each trial: starting and ending it.
    pub us_per_trial: f64,
    /// Processor time of the machine for each heartbeat, with deadlines that come between.
    pub us_per_heartbeat: f64,
    /// Processor time to encode the records of each trial.
    pub encode_us_per_trial: f64,
    /// What the machine has allocated, and its workers' models, which need little.
    pub heap_mib: f64,
    /// Growth of it for each trial since the line before.
    pub bytes_per_trial: f64,
    /// Records in the store, and their size.
    pub records: usize,
    pub stored_mib: f64,
    /// Processor time of a new leader to decode and take up all of them.
    pub restore_ms: f64,
    /// Processor time of one page of answers: a job, and 100 of its trials from all over it.
    pub page_us: f64,
}

/// Processor time of one kind of work.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    results_ns: u64,
    trials_ns: u64,
    beats_ns: u64,
    beats: u64,
    encode_ns: u64,
}

/// What an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Results,
    Trials,
    Beats,
}

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Report,
    Heartbeat,
}

#[derive(Default)]
struct Busy {
    rank: Option<RankRef>,
    /// The other ranks' workers, on rank 0.
    peers: Vec<u32>,
    step: u64,
    sequence: u64,
}

struct Cluster {
    scale: Scale,
    machine: Machine,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, Next, u32)>>,
    workers: Vec<Busy>,
    archive: Archive,
    spent: Spent,
    ended: u32,
    results: u64,
}

/// Runs it; `tell` is given each line as it is known.
///
/// # Errors
/// The machine refused something, or stopped before the end.
pub fn run(scale: Scale, mut tell: impl FnMut(Row)) -> Result<Vec<Row>, String> {
    let mut cluster = Cluster::new(scale)?;
    let trials = scale.trials / scale.jobs * scale.jobs;
    let mut rows = Vec::new();
    let every = (trials / scale.rows.max(1)).max(1);
    let mut last = (Row::default(), Spent::default(), heap::live());
    while cluster.ended < trials {
        cluster.happen()?;
        let due = last.0.trials + every;
        if cluster.ended >= due.min(trials) {
            let (row, heap) = cluster.row(&last)?;
            last = (row, cluster.spent, heap);
            tell(row);
            rows.push(row);
        }
    }
    let jobs = cluster.machine.jobs();
    let completed: u32 = jobs.iter().map(|job| job.trials.completed).sum();
    if completed != trials || !jobs.iter().all(|job| job.state.ended()) {
        return Err(format!("{completed} of {trials} trials completed"));
    }
    Ok(rows)
}

fn config() -> MachineConfig {
    MachineConfig {
        lease_ms: 60_000,
        ..MachineConfig::default()
    }
}

impl Cluster {
    fn new(scale: Scale) -> Result<Self, String> {
        let mut cluster = Self {
            scale,
            machine: Machine::new(Term(1), config()),
            now: BEGIN_MS,
            queue: BinaryHeap::new(),
            workers: Vec::new(),
            archive: Archive::default(),
            spent: Spent::default(),
            ended: 0,
            results: 0,
        };
        for number in 0..scale.workers {
            cluster.join(number)?;
        }
        let text = format!(
            "name: scale\nentrypoint: {{command: [train]}}\n\
             hyperparameters: {{rate: {{type: double, log: true, minval: 0.00001, maxval: 0.1}}, width: {{type: int, minval: 8, maxval: 512}}}}\n\
             objectives: [{{metric: loss, mode: minimize}}]\n\
             resources: {{slots_per_trial: {}}}\n\
             searcher: {{name: random, max_trials: {}}}\n",
            scale.ranks,
            scale.trials / scale.jobs
        );
        let document = Document::parse(&text).map_err(|errors| errors.to_string())?;
        for number in 0..scale.jobs {
            let submit = Event::Submit {
                request: RequestId(format!("scale-{number}")),
                document: Box::new(document.clone()),
            };
            cluster.apply(submit, Of::Trials)?;
        }
        Ok(cluster)
    }

    fn join(&mut self, number: u32) -> Result<(), String> {
        self.workers.push(Busy::default());
        let info = WorkerInfo {
            worker: WorkerId(format!("worker-{number:05}")),
            host: format!("host-{:04}", number / 8),
            version: "1".to_owned(),
            devices: vec!["cpu".to_owned()],
            collective_address: format!("10.0.0.1:{number}"),
            cpu_kind: "kind".to_owned(),
            programs: true,
        };
        let beat = u64::from(number) % config().heartbeat_ms;
        self.queue
            .push(Reverse((self.now + beat, Next::Heartbeat, number)));
        let joined = Event::WorkerJoined {
            info,
            secret: Some(SecretDigest([7; 32])),
            peer: None,
            session: session(number),
            running: Vec::new(),
            term: Term(1),
        };
        self.apply(joined, Of::Trials)
    }

    /// Between two results of one trial, so that all together give the rate.
    fn period_ms(&self) -> u64 {
        let rate = u64::from(self.scale.results_per_s.max(1));
        let running = u64::from(self.scale.workers / self.scale.ranks);
        (running * 1_000 / rate).max(1)
    }

    /// The next thing that happens.
    fn happen(&mut self) -> Result<(), String> {
        let deadline = self.machine.next_deadline().unwrap_or(u64::MAX);
        let next = self.queue.peek().map(|Reverse((at, ..))| *at);
        let next = next.ok_or("nothing happens any more")?;
        if deadline < next {
            self.now = self.now.max(deadline);
            return self.apply(Event::Tick, Of::Beats);
        }
        let Some(Reverse((at, what, number))) = self.queue.pop() else {
            return Ok(());
        };
        self.now = self.now.max(at);
        match what {
            Next::Heartbeat => self.heartbeat(number),
            Next::Report => self.report(number),
        }
    }

    fn heartbeat(&mut self, number: u32) -> Result<(), String> {
        let again = self.now + config().heartbeat_ms;
        self.queue.push(Reverse((again, Next::Heartbeat, number)));
        let session = session(number);
        self.spent.beats += 1;
        self.apply(Event::Heartbeat { session }, Of::Beats)?;
        let worker = &self.workers[number as usize];
        let Some(rank) = worker.rank.clone() else {
            return Ok(());
        };
        let pulses = vec![Pulse {
            rank,
            step: worker.step,
            signs: worker.step,
        }];
        self.apply(Event::Pulses { session, pulses }, Of::Beats)
    }

    /// A worker's next result; with the last one, the trial's end.
    fn report(&mut self, number: u32) -> Result<(), String> {
        let last = u64::from(self.scale.results_per_trial);
        let worker = &mut self.workers[number as usize];
        let Some(rank) = worker.rank.clone() else {
            return Ok(());
        };
        worker.step += 1;
        let step = worker.step;
        self.results += 1;
        let progress = ReportBody::Progress(point(step));
        if step < last {
            let again = self.now + self.period_ms();
            self.queue.push(Reverse((again, Next::Report, number)));
            return self.tell(number, &rank, vec![progress], Of::Results);
        }
        worker.rank = None;
        let peers = std::mem::take(&mut worker.peers);
        let saved = ReportBody::Checkpoint(checkpoint(&rank, step));
        self.ended += 1;
        let bodies = vec![progress, saved, completed(step)];
        self.tell(number, &rank, bodies, Of::Trials)?;
        for peer in peers {
            if let Some(rank) = self.workers[peer as usize].rank.take() {
                self.tell(peer, &rank, vec![completed(step)], Of::Trials)?;
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        number: u32,
        rank: &RankRef,
        bodies: Vec<ReportBody>,
        of: Of,
    ) -> Result<(), String> {
        let worker = &mut self.workers[number as usize];
        let mut reports = Vec::with_capacity(bodies.len());
        for body in bodies {
            worker.sequence += 1;
            reports.push(Report {
                sequence: worker.sequence,
                rank: rank.clone(),
                time_ms: self.now,
                body,
            });
        }
        let session = session(number);
        self.apply(Event::Reports { session, reports }, of)
    }

    fn apply(&mut self, event: Event, of: Of) -> Result<(), String> {
        let began = cpu_ns();
        let applied = self.machine.apply(self.now, event);
        let spent = cpu_ns() - began;
        match of {
            Of::Results => self.spent.results_ns += spent,
            Of::Trials => self.spent.trials_ns += spent,
            Of::Beats => self.spent.beats_ns += spent,
        }
        let step = applied.map_err(|rejection| rejection.to_string())?;
        self.act(step)
    }

    fn act(&mut self, step: Step) -> Result<(), String> {
        for record in &step.records {
            self.archive.write(record)?;
        }
        for key in &step.removed {
            self.archive.remove(key);
        }
        self.spent.encode_ns = self.archive.encode_ns;
        for effect in step.effects {
            match effect {
                Effect::Send {
                    session,
                    message: ToWorker::Assign(assignment),
                    ..
                } => self.assigned(session.0 as u32, *assignment)?,
                Effect::Probe { worker, path, .. } => {
                    let error = None;
                    let probed = Event::StoreProbed {
                        worker,
                        path,
                        error,
                    };
                    self.apply(probed, Of::Trials)?;
                }
                Effect::Search { job, ticket, task } => {
                    let computed = task.run();
                    let searched = Event::Searched {
                        job,
                        ticket,
                        computed,
                    };
                    self.apply(searched, Of::Trials)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn assigned(&mut self, number: u32, assignment: Assignment) -> Result<(), String> {
        let rank = RankRef {
            at: assignment.at,
            rank: assignment.rank,
        };
        let worker = &mut self.workers[number as usize];
        worker.rank = Some(rank.clone());
        worker.step = 0;
        if rank.rank != 0 {
            return Ok(());
        }
        let peers = assignment.ranks.iter().skip(1);
        let number_of = |worker: &WorkerId| worker.as_str().rsplit('-').next()?.parse().ok();
        worker.peers = peers.filter_map(|place| number_of(&place.worker)).collect();
        // Spread over the period, so that results come evenly.
        let wait = 1 + u64::from(number) * 7_919 % self.period_ms();
        self.queue
            .push(Reverse((self.now + wait, Next::Report, number)));
        let started = ReportBody::Started {
            from_step: 0,
            steps_total: u64::from(self.scale.results_per_trial),
            epochs_total: u64::from(self.scale.results_per_trial),
            parameters: 1_000,
        };
        self.tell(number, &rank, vec![started], Of::Trials)
    }

    /// The next line, and what is allocated.
    fn row(&self, (last, before, heap_before): &(Row, Spent, i64)) -> Result<(Row, i64), String> {
        const MIB: f64 = (1 << 20) as f64;
        let trials = f64::from((self.ended - last.trials).max(1));
        let results = (self.results - last.results).max(1) as f64;
        let beats = (self.spent.beats - before.beats).max(1) as f64;
        let us = |now: u64, before: u64, by: f64| (now - before) as f64 / 1_000.0 / by;
        // First: after the restored machine is dropped, whoever allocates pays for giving its memory back.
        let page_us = self.page()?;
        let restored = self.archive.restore(&config(), self.now)?;
        if restored.trials_ended != u64::from(self.ended) {
            return Err(format!("{} trials ended, {restored:?}", self.ended));
        }
        let heap = heap::live();
        let row = Row {
            trials: self.ended,
            results: self.results,
            virtual_s: (self.now - BEGIN_MS) as f64 / 1_000.0,
            us_per_result: us(self.spent.results_ns, before.results_ns, results),
            us_per_trial: us(self.spent.trials_ns, before.trials_ns, trials),
            us_per_heartbeat: us(self.spent.beats_ns, before.beats_ns, beats),
            encode_us_per_trial: us(self.spent.encode_ns, before.encode_ns, trials),
            heap_mib: heap as f64 / MIB,
            bytes_per_trial: (heap as f64 - *heap_before as f64) / trials,
            records: restored.records,
            stored_mib: restored.bytes as f64 / MIB,
            restore_ms: restored.ms,
            page_us,
        };
        Ok((row, heap))
    }

    /// Processor time of a page of answers about the first job.
    fn page(&self) -> Result<f64, String> {
        let began = cpu_ns();
        let job = JobId("scale-1".to_owned());
        let known = self.machine.job(&job).ok_or("the job is gone")?;
        let trials = known.trials.total();
        let shown = (0..PAGE.min(trials)).map(|number| {
            let spread = u64::from(number) * u64::from(trials) / u64::from(PAGE.min(trials));
            self.machine.trial(&job, TrialId(spread as u32))
        });
        let shown: Option<Vec<_>> = shown.collect();
        std::hint::black_box(shown.ok_or("a trial is gone")?);
        Ok((cpu_ns() - began) as f64 / 1_000.0)
    }
}

fn session(number: u32) -> SessionId {
    SessionId(u64::from(number))
}

fn point(step: u64) -> Point {
    Point {
        step,
        epoch: step,
        metrics: vec![("loss".to_owned(), 1.0 / step as f64)],
        end_of_epoch: true,
        epochs_from_zero: false,
        time_ms: 0,
    }
}

fn completed(step: u64) -> ReportBody {
    ReportBody::Ended {
        outcome: Outcome::Completed,
        error: String::new(),
        step,
        test_metrics: Vec::new(),
    }
}

fn checkpoint(rank: &RankRef, step: u64) -> CheckpointRef {
    CheckpointRef {
        manifest: format!(
            "trials/{}/{step:012}-{}.json",
            rank.at.trial, rank.at.generation
        ),
        step,
        epoch: step,
        bytes: 1_000_000,
        digest: "0".repeat(64),
        metrics: vec![("loss".to_owned(), 1.0 / step as f64)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gangs_of_several_jobs_end_and_restore() {
        let scale = Scale {
            workers: 24,
            trials: 120,
            jobs: 3,
            ranks: 4,
            results_per_s: 100,
            results_per_trial: 3,
            rows: 4,
        };
        let rows = run(scale, |_| {}).unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.trials, row.results)).collect();
        assert_eq!(told.last(), Some(&(120, 360)));
        assert_eq!(told.len(), 4);
        assert!(rows.iter().all(|row| row.records > 0 && row.page_us > 0.0));
    }
}
