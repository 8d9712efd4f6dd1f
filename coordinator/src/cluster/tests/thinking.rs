//! Searchers that compute beside the loop: what is logged, what goes on meanwhile, and what becomes of answers.

use std::collections::BTreeMap;

use super::*;
use crate::cluster::model::{
    AttemptRef, Computation, Computed, JobState, SearchEntry, Ticket, TrialState,
};
use crate::cluster::view::replay::verify;

/// A machine whose searchers compute everything beside it, as an answer that comes when it is told to.
pub(super) struct Late {
    pub(super) bench: Bench,
    asked: Vec<(JobId, Ticket, Computation)>,
}

fn late_config() -> MachineConfig {
    MachineConfig {
        quick_ms: 0,
        ..config()
    }
}

impl Late {
    pub(super) fn new() -> Self {
        let mut bench = Bench::new();
        bench.machine = Machine::new(Term(1), late_config());
        bench.computes = false;
        let asked = Vec::new();
        Self { bench, asked }
    }

    pub(super) fn apply(&mut self, event: Event) -> Step {
        let step = self.bench.apply(event);
        for effect in &step.effects {
            if let Effect::Search { job, ticket, task } = effect {
                self.asked.push((job.clone(), *ticket, task.clone()));
            }
        }
        step
    }

    /// Whether something is being computed.
    pub(super) fn asks(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn report(&mut self, rank: &RankRef, body: ReportBody) -> Step {
        self.bench.sequence += 1;
        let report = Report {
            sequence: self.bench.sequence,
            rank: rank.clone(),
            time_ms: 0,
            body,
        };
        let (session, reports) = (SessionId(1), vec![report]);
        self.apply(Event::Reports { session, reports })
    }

    /// First ranks of what runs.
    pub(super) fn running(&self, job: &str) -> Vec<RankRef> {
        let trials = (0..self.trials(job)).map(|trial| TrialId(trial as u32));
        let living = trials.filter_map(|trial| self.bench.machine.living(&job.into(), trial));
        living.map(|at| RankRef { at, rank: 0 }).collect()
    }

    /// The job's searcher answers.
    pub(super) fn answer(&mut self, job: &str) -> Step {
        let of = |(asked, ..): &(JobId, _, _)| asked.as_str() == job;
        let at = self.asked.iter().position(of).expect("nothing was asked");
        let (job, ticket, task) = self.asked.remove(at);
        self.thought(job, ticket, task.run())
    }

    fn thought(&mut self, job: JobId, ticket: Ticket, thought: Result<Computed, String>) -> Step {
        let computed = thought;
        self.apply(Event::Searched {
            job,
            ticket,
            computed,
        })
    }

    pub(super) fn log(&self, job: &str) -> Vec<SearchEntry> {
        let records = self.bench.stored.values();
        let entries = records.filter_map(|record| match record {
            Record::Search(record) if record.job.as_str() == job => {
                Some((record.index, record.entry.clone()))
            }
            _ => None,
        });
        // Keys are in the order of indices only up to a number of digits.
        entries.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Another coordinator takes over. What was computed for the last one is lost.
    pub(super) fn restart(&mut self) {
        let records: Vec<Record> = self.bench.stored.values().cloned().collect();
        let now = self.bench.now;
        self.bench.machine = Machine::restore(Term(2), late_config(), now, records).unwrap();
        self.asked.clear();
        self.apply(Event::Tick);
    }

    /// Its log leads to what its trials were given.
    pub(super) fn replays(&self, job: &str) {
        let trials: BTreeMap<TrialId, _> = self
            .bench
            .stored
            .values()
            .filter_map(|record| match record {
                Record::Trial(trial) if trial.job.as_str() == job => {
                    Some((trial.trial, trial.suggested_params().clone()))
                }
                _ => None,
            })
            .collect();
        let document = self.bench.machine.document(&job.into()).unwrap();
        let log = self.log(job);
        verify(document.job(), &log, |trial| trials.get(&trial)).unwrap();
    }

    fn state(&self, job: &str) -> JobState {
        self.bench.machine.job(&job.into()).unwrap().state
    }

    pub(super) fn working(&self, job: &str) -> String {
        self.bench.machine.job(&job.into()).unwrap().working
    }

    fn trials(&self, job: &str) -> usize {
        self.bench.machine.trials(&job.into()).unwrap().len()
    }

    fn end(&mut self, at: &RankRef, loss: f64) -> Step {
        self.bench.sequence += 2;
        let bodies = [epoch(1, "loss", loss), ended(Outcome::Completed, "")];
        let numbered = (self.bench.sequence - 1..).zip(bodies);
        let reports = numbered.map(|(sequence, body)| Report {
            sequence,
            rank: at.clone(),
            time_ms: 0,
            body,
        });
        let (session, reports) = (SessionId(1), reports.collect());
        self.apply(Event::Reports { session, reports })
    }
}

fn gp(name: &str, trials: u32) -> Document {
    let searcher = format!("searcher: {{name: gp, max_trials: {trials}}}");
    program(name, trials, &searcher)
}

#[test]
fn others_go_on_while_a_searcher_computes() {
    let mut late = Late::new();
    late.apply(submit("a", program("a", 2, "")));
    late.apply(submit("b", program("b", 2, "")));
    let step = late.apply(joined("w", 1, 1, vec![]));
    assert!(assigned(&step).is_empty());
    let asked = |trial| SearchEntry::Asked {
        trial: TrialId(trial),
    };
    assert_eq!(late.log("a-1"), [asked(0)]);
    assert_eq!(late.log("b-2"), [asked(0)]);
    assert_eq!(late.working("a-1"), "its next trial is being worked out");
    // Who has found out first gets the slot; the other has its trial when there is one.
    let step = late.answer("b-2");
    let [b] = ranks(&step).try_into().unwrap();
    assert_eq!(b.at.job.as_str(), "b-2");
    assert!(assigned(&late.answer("a-1")).is_empty());
    assert_eq!(
        (late.trials("a-1"), late.working("a-1")),
        (0, String::new())
    );
    let step = late.end(&b, 1.0);
    let [a] = ranks(&step).try_into().unwrap();
    assert_eq!((a.at.job.as_str(), a.at.trial), ("a-1", TrialId(0)));
    assert_eq!(late.log("a-1").len(), 2);
    late.replays("a-1");
    late.replays("b-2");
}

/// The log says after which results a suggestion was made; others come after it, in a replay as well.
#[test]
fn results_that_come_meanwhile_are_heard_afterwards() {
    let mut late = Late::new();
    late.apply(submit("a", gp("a", 14)));
    late.apply(joined("w", 2, 1, vec![]));
    let mut running = Vec::new();
    let mut round = 0u32;
    while !late.state("a-1").ended() {
        while !late.asked.is_empty() {
            running.extend(ranks(&late.answer("a-1")));
        }
        for at in std::mem::take(&mut running) {
            // With the first one a slot is free: the next suggestion is asked for, and knows nothing of the second.
            late.end(&at, f64::from(round * round % 7) + f64::from(at.at.trial.0));
            if round == 3 && late.asked.len() == 1 {
                let before = late.bench.machine.trials(&"a-1".into());
                late.restart();
                assert_eq!(late.bench.machine.trials(&"a-1".into()), before);
                let mine = |rank: &RankRef| late.bench.machine.living(&rank.at.job, rank.at.trial);
                let other = RankRef {
                    at: AttemptRef {
                        trial: TrialId(at.at.trial.0 + 1),
                        ..at.at.clone()
                    },
                    ..at.clone()
                };
                let lives = mine(&other).map(|at| RankRef { at, ..other });
                let lives: Vec<RankRef> = lives.into_iter().collect();
                late.apply(joined("w", 2, 1, lives));
            }
        }
        late.replays("a-1");
        round += 1;
        assert!(round < 20, "does not end");
    }
    assert_eq!(late.trials("a-1"), 14);
    let log = late.log("a-1");
    let between = log.windows(3).any(|entries| {
        let [first, second, third] = entries else {
            return false;
        };
        matches!(first, SearchEntry::Asked { .. })
            && matches!(second, SearchEntry::Observed(_))
            && matches!(third, SearchEntry::Suggested { .. })
    });
    assert!(between, "{log:?}");
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_is_the_same() {
    let mut params = Vec::new();
    for lost in [false, true] {
        let mut late = Late::new();
        late.apply(submit("a", gp("a", 9)));
        late.apply(joined("w", 1, 1, vec![]));
        for number in 0u32..6 {
            let [at] = ranks(&late.answer("a-1")).try_into().unwrap();
            late.end(&at, f64::from(number * number % 5));
        }
        if lost {
            late.restart();
            let reading = "its search is still being read from its log";
            assert!(late.working("a-1").starts_with(reading));
            assert!(late.bench.machine.loads(&"a-1".into()));
            late.apply(joined("w", 1, 1, vec![]));
        }
        let step = late.answer("a-1");
        let [next] = assigned(&step).try_into().unwrap();
        assert_eq!(next.at.trial, TrialId(6));
        params.push(next.spec.params.clone());
        late.replays("a-1");
    }
    assert_eq!(params[0], params[1]);
}

#[test]
fn nobody_waits_for_the_answer_of_a_job_that_has_ended() {
    let mut late = Late::new();
    late.apply(submit("a", program("a", 2, "")));
    late.apply(joined("w", 1, 1, vec![]));
    let (request, job) = (RequestId::from("c"), JobId::from("a-1"));
    late.apply(Event::Cancel { request, job });
    let step = late.answer("a-1");
    assert!(step.records.is_empty() && assigned(&step).is_empty());
    assert_eq!(late.state("a-1"), JobState::Cancelled);
}

#[test]
fn a_paused_job_goes_on_with_what_was_found_meanwhile() {
    let mut late = Late::new();
    late.apply(submit("a", program("a", 2, "")));
    late.apply(joined("w", 1, 1, vec![]));
    let (request, job) = (RequestId::from("p"), JobId::from("a-1"));
    let trial = None;
    late.apply(Event::Pause {
        request,
        job: job.clone(),
        trial,
    });
    assert!(assigned(&late.answer("a-1")).is_empty());
    let request = RequestId::from("q");
    let step = late.apply(Event::Resume {
        request,
        job,
        trial,
    });
    assert_eq!(ranks(&step).len(), 1);
    assert!(late.asked.is_empty());
    late.replays("a-1");
}

#[test]
fn a_search_that_fails_ends_its_job_alone() {
    let mut late = Late::new();
    late.apply(submit("a", program("a", 2, "")));
    late.apply(submit("b", program("b", 2, "")));
    late.apply(joined("w", 1, 1, vec![]));
    let (job, ticket, _) = late.asked.remove(0);
    let error = "its search panicked: at 7".to_owned();
    late.thought(job, ticket, Err(error.clone()));
    let failed = late.bench.machine.job(&"a-1".into()).unwrap();
    assert_eq!((failed.state, failed.error), (JobState::Failed, error));
    assert_eq!(ranks(&late.answer("b-2")).len(), 1);
}

#[test]
fn a_search_is_extended_while_it_computes_and_not_before_it_is_read() {
    let extend = |request: &str, trials| Event::Extend {
        request: RequestId::from(request),
        job: JobId::from("a-1"),
        trials,
        seconds: 0.0,
    };
    let mut late = Late::new();
    let space = "hyperparameters: {x: {type: int, minval: 1, maxval: 6}}";
    let document = format!(
        "name: a\nentrypoint: {{command: [train]}}\n{space}\n\
         objectives: [{{metric: loss, mode: minimize}}]\nsearcher: {{name: random, max_trials: 1}}\n"
    );
    late.apply(submit("a", Document::parse(&document).unwrap()));
    late.apply(joined("w", 1, 1, vec![]));
    late.apply(extend("e", 2));
    let expected = |late: &Late| {
        let job = late.bench.machine.job(&"a-1".into()).unwrap();
        job.trials_expected
    };
    assert_eq!(expected(&late), Some(3));
    let more = late.bench.machine.apply(late.bench.now, extend("f", 4));
    assert!(more.unwrap_err().to_string().contains("no more than 3"));
    let [at] = ranks(&late.answer("a-1")).try_into().unwrap();
    let more = late.bench.machine.apply(late.bench.now, extend("g", 4));
    assert!(more.unwrap_err().to_string().contains("no more than 3"));
    late.end(&at, 1.0);
    late.restart();
    let early = late.bench.machine.apply(late.bench.now, extend("h", 1));
    assert_eq!(early.unwrap_err(), Rejection::Loading("a-1".into()));
    late.answer("a-1");
    late.apply(extend("h", 3));
    assert_eq!(expected(&late), Some(6));
    let mut step = late.apply(joined("w", 1, 1, vec![]));
    loop {
        for at in ranks(&step) {
            late.end(&at, 1.0);
        }
        if late.asked.is_empty() {
            break;
        }
        step = late.answer("a-1");
    }
    assert_eq!(
        (late.trials("a-1"), late.state("a-1")),
        (6, JobState::Completed)
    );
    late.replays("a-1");
}

/// A restored search takes its trials' reports before its searcher is there.
#[test]
fn reports_are_taken_while_a_search_is_read() {
    let rungs = "scheduler: {name: asha, min_resource: 1, max_resource: 4, eta: 2}";
    let mut late = Late::new();
    late.apply(submit("a", program("a", 4, rungs)));
    late.apply(joined("w", 2, 1, vec![]));
    let first = ranks(&late.answer("a-1"));
    let second = ranks(&late.answer("a-1"));
    let running = [first, second].concat();
    assert_eq!(running.len(), 2);
    late.restart();
    late.apply(joined("w", 2, 1, running.clone()));
    for (at, loss) in running.iter().zip([0.5, 0.25]) {
        let bodies = vec![epoch(1, "loss", loss), ended(Outcome::Paused, "")];
        for body in bodies {
            late.bench.sequence += 1;
            let report = Report {
                sequence: late.bench.sequence,
                rank: at.clone(),
                time_ms: 0,
                body,
            };
            let (session, reports) = (SessionId(1), vec![report]);
            late.apply(Event::Reports { session, reports });
        }
    }
    // The better one was promoted meanwhile, and runs again.
    let trials = late.bench.machine.trials(&"a-1".into()).unwrap();
    let states: Vec<TrialState> = trials.iter().map(|trial| trial.state).collect();
    assert_eq!(states, [TrialState::Paused, TrialState::Running]);
    assert!(late.bench.machine.loads(&"a-1".into()));
    late.answer("a-1");
    assert_eq!(ranks(&late.answer("a-1")).len(), 1);
    late.replays("a-1");
}

/// Nothing more is proposed: that ends the search, unless trials are added meanwhile.
#[test]
fn a_search_that_finds_nothing_more_ends() {
    for extended in [false, true] {
        let mut late = Late::new();
        late.apply(submit("a", program("a", 2, "")));
        late.apply(joined("w", 1, 1, vec![]));
        if extended {
            late.apply(Event::Extend {
                request: RequestId::from("e"),
                job: JobId::from("a-1"),
                trials: 2,
                seconds: 0.0,
            });
        }
        let (job, ticket, task) = late.asked.remove(0);
        let Ok(Computed::Thought(mut thought)) = task.run() else {
            panic!("it is the searcher's");
        };
        thought.proposal.as_mut().unwrap().params = None;
        late.thought(job, ticket, Ok(Computed::Thought(thought)));
        let last = late.log("a-1").pop();
        if extended {
            assert_eq!(last, Some(SearchEntry::Asked { trial: TrialId(0) }));
            assert_eq!(late.asked.len(), 1);
        } else {
            assert_eq!(last, Some(SearchEntry::Exhausted));
            let ended = late.bench.machine.job(&"a-1".into()).unwrap();
            assert_eq!(ended.state, JobState::Failed);
            assert!(ended.error.contains("no trial was run"), "{}", ended.error);
        }
    }
}

/// Slots that are kept for a gang stay so while its next trial is being worked out.
#[test]
fn what_is_kept_for_a_gang_waits_for_its_search() {
    let mut late = Late::new();
    late.apply(joined("w", 2, 1, vec![]));
    late.apply(submit("s", program("s", 9, "")));
    let small = [ranks(&late.answer("s-1")), ranks(&late.answer("s-1"))].concat();
    assert_eq!(small.len(), 2);
    let gang = "resources: {slots_per_trial: 2}";
    late.apply(submit("g", program("g", 1, gang)));
    for _ in 0..=config().gang_wait_ms / 5_000 {
        late.bench.now += 5_000;
        late.apply(Event::Heartbeat {
            session: SessionId(1),
        });
    }
    let kept = |late: &Late| -> u32 {
        let workers = late.bench.machine.workers();
        workers.iter().map(|worker| worker.slots_kept).sum()
    };
    assert!(ranks(&late.end(&small[0], 1.0)).is_empty());
    assert_eq!(kept(&late), 1);
    late.end(&small[1], 1.0);
    // The search of the gang was asked; the small one's next trial must not have its slots.
    assert!(late.asked.iter().any(|(job, ..)| job.as_str() == "g-2"));
    assert_eq!(kept(&late), 2);
    while late.asked.iter().any(|(job, ..)| job.as_str() == "s-1") {
        assert!(ranks(&late.answer("s-1")).is_empty());
    }
    assert_eq!(ranks(&late.answer("g-2")).len(), 2);
    assert_eq!(kept(&late), 0);
}
