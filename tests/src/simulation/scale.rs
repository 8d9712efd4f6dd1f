//! The machine at the size of a large cluster: its own processor time and memory for each trial and each
//! result, as history grows. No network and no store: workers do what they are told at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{RequestId, Term, WorkerId};
use trainyard_common::spec::Document;
use trainyard_coordinator::cluster::Machine;
use trainyard_coordinator::cluster::types::{
    Effect, Event, MachineConfig, Outcome, Point, RankRef, Report, ReportBody, SessionId, Step,
    ToWorker, WorkerInfo,
};

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Workers of one slot each.
    pub workers: u32,
    pub trials: u32,
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
    /// Processor time of the machine for each result (with the messages that only tell results).
    pub us_per_result: f64,
    /// Processor time of the machine for each trial: starting and ending it, heartbeats, ticks.
    pub us_per_trial: f64,
    /// Processor time to encode the records of each trial.
    pub encode_us_per_trial: f64,
    /// Resident memory of this process.
    pub resident_mib: f64,
    /// Growth of it for each trial since the line before.
    pub bytes_per_trial: f64,
}

/// Processor time of one kind of work.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    results_ns: u64,
    trials_ns: u64,
    encode_ns: u64,
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
    step: u64,
    sequence: u64,
}

struct Cluster {
    scale: Scale,
    machine: Machine,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, Next, u32)>>,
    workers: Vec<Busy>,
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
    let mut rows = Vec::new();
    let every = (scale.trials / scale.rows.max(1)).max(1);
    let mut last = (Row::default(), Spent::default(), resident());
    while cluster.ended < scale.trials {
        cluster.happen()?;
        let due = last.0.trials + every;
        if cluster.ended >= due.min(scale.trials) {
            let row = cluster.row(&last);
            last = (row, cluster.spent, resident());
            tell(row);
            rows.push(row);
        }
    }
    let jobs = cluster.machine.jobs();
    let completed = jobs.first().map_or(0, |job| job.trials.completed);
    if completed != scale.trials || !jobs.iter().all(|job| job.state.ended()) {
        return Err(format!("{completed} of {} trials completed", scale.trials));
    }
    Ok(rows)
}

impl Cluster {
    fn new(scale: Scale) -> Result<Self, String> {
        let config = MachineConfig {
            lease_ms: 60_000,
            ..MachineConfig::default()
        };
        let mut cluster = Self {
            scale,
            machine: Machine::new(Term(1), config),
            now: 1_000_000,
            queue: BinaryHeap::new(),
            workers: Vec::new(),
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
             searcher: {{name: random, max_trials: {}}}\n",
            scale.trials
        );
        let document = Document::parse(&text).map_err(|errors| errors.to_string())?;
        cluster.apply(
            Event::Submit {
                request: RequestId("scale".to_owned()),
                document: Box::new(document),
            },
            false,
        )?;
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
        };
        let beat = u64::from(number) % self.heartbeat_ms();
        self.queue
            .push(Reverse((self.now + beat, Next::Heartbeat, number)));
        self.apply(
            Event::WorkerJoined {
                info,
                session: session(number),
                running: Vec::new(),
                term: Term(1),
            },
            false,
        )
    }

    fn heartbeat_ms(&self) -> u64 {
        MachineConfig::default().heartbeat_ms
    }

    /// Between two results of one worker, so that all together give the rate.
    fn period_ms(&self) -> u64 {
        let rate = u64::from(self.scale.results_per_s.max(1));
        (u64::from(self.scale.workers) * 1_000 / rate).max(1)
    }

    /// The next thing that happens.
    fn happen(&mut self) -> Result<(), String> {
        let deadline = self.machine.next_deadline().unwrap_or(u64::MAX);
        let next = self.queue.peek().map(|Reverse((at, ..))| *at);
        let next = next.ok_or("nothing happens any more")?;
        if deadline < next {
            self.now = self.now.max(deadline);
            return self.apply(Event::Tick, false);
        }
        let Some(Reverse((at, what, number))) = self.queue.pop() else {
            return Ok(());
        };
        self.now = self.now.max(at);
        match what {
            Next::Heartbeat => {
                let again = at + self.heartbeat_ms();
                self.queue.push(Reverse((again, Next::Heartbeat, number)));
                let session = session(number);
                self.apply(Event::Heartbeat { session }, false)
            }
            Next::Report => self.report(number),
        }
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
        let mut bodies = vec![ReportBody::Progress(point(step))];
        let over = step >= last;
        if over {
            worker.rank = None;
            bodies.push(ReportBody::Checkpoint(checkpoint(&rank, step)));
            bodies.push(ReportBody::Ended {
                outcome: Outcome::Completed,
                error: String::new(),
                step,
                test_metrics: Vec::new(),
            });
        }
        self.results += 1;
        self.tell(number, &rank, bodies, !over)?;
        if over {
            self.ended += 1;
        } else {
            let again = self.now + self.period_ms();
            self.queue.push(Reverse((again, Next::Report, number)));
        }
        Ok(())
    }

    fn tell(
        &mut self,
        number: u32,
        rank: &RankRef,
        bodies: Vec<ReportBody>,
        only_results: bool,
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
        self.apply(Event::Reports { session, reports }, only_results)
    }

    fn apply(&mut self, event: Event, only_results: bool) -> Result<(), String> {
        let began = cpu_ns();
        let applied = self.machine.apply(self.now, event);
        let spent = cpu_ns() - began;
        if only_results {
            self.spent.results_ns += spent;
        } else {
            self.spent.trials_ns += spent;
        }
        let step = applied.map_err(|rejection| rejection.to_string())?;
        self.act(step)
    }

    fn act(&mut self, step: Step) -> Result<(), String> {
        let began = cpu_ns();
        for record in &step.records {
            let written = record.encode().map_err(|error| error.to_string())?;
            std::hint::black_box(written);
        }
        self.spent.encode_ns += cpu_ns() - began;
        for effect in step.effects {
            match effect {
                Effect::Send {
                    session,
                    message: ToWorker::Assign(assignment),
                    ..
                } => {
                    let number = session.0 as u32;
                    let rank = RankRef {
                        at: assignment.at.clone(),
                        rank: assignment.rank,
                    };
                    let worker = &mut self.workers[number as usize];
                    worker.rank = Some(rank.clone());
                    worker.step = 0;
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
                    self.tell(number, &rank, vec![started], false)?;
                }
                Effect::Probe { worker, path, .. } => {
                    let error = None;
                    self.apply(
                        Event::StoreProbed {
                            worker,
                            path,
                            error,
                        },
                        false,
                    )?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn row(&self, (last, before, resident_before): &(Row, Spent, u64)) -> Row {
        let trials = f64::from((self.ended - last.trials).max(1));
        let results = (self.results - last.results).max(1) as f64;
        let us = |now: u64, before: u64, by: f64| (now - before) as f64 / 1_000.0 / by;
        let resident = resident();
        let grown = resident as f64 - *resident_before as f64;
        Row {
            trials: self.ended,
            results: self.results,
            virtual_s: (self.now - 1_000_000) as f64 / 1_000.0,
            us_per_result: us(self.spent.results_ns, before.results_ns, results),
            us_per_trial: us(self.spent.trials_ns, before.trials_ns, trials),
            encode_us_per_trial: us(self.spent.encode_ns, before.encode_ns, trials),
            resident_mib: resident as f64 / f64::from(1 << 20),
            bytes_per_trial: grown / trials,
        }
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
        time_ms: 0,
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

/// Processor time of this thread, nanoseconds.
#[allow(unsafe_code)]
fn cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec, which it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory of this process, bytes; 0 where the system does not tell.
fn resident() -> u64 {
    const PAGE: u64 = 4_096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0) * PAGE
}
