//! A world that drives any scheduler to the end of its search: workers that finish in any order, trials
//! that fail, come to no value, are preempted or ended by people, and a search that is closed early.

use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Document;

use super::super::*;

/// What a scheduler was told or asked, in order, and what it answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Begun(TrialId, Params),
    Promoted(Promotion),
    Reached {
        trial: TrialId,
        number: u32,
        resource: u64,
        value: Option<f64>,
        verdict: Verdict,
    },
    Ended(TrialId, Option<f64>),
    Closed,
}

/// How things go wrong: probabilities of each after an epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Luck {
    pub(super) fails: f64,
    pub(super) no_value: f64,
    pub(super) preempted: f64,
    /// A trial that waits is ended by somebody.
    pub(super) ended: f64,
    /// The search is closed.
    pub(super) closed: f64,
    /// Different values: few make ties.
    pub(super) values: u64,
}

pub(super) const FAIR: Luck = Luck {
    fails: 0.0,
    no_value: 0.0,
    preempted: 0.0,
    ended: 0.0,
    closed: 0.0,
    values: 1_000_000,
};

pub(super) const ROUGH: Luck = Luck {
    fails: 0.03,
    no_value: 0.1,
    preempted: 0.05,
    ended: 0.01,
    closed: 0.002,
    values: 7,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// At this epoch.
    Runs(u64),
    Waits,
    Ended,
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) log: Vec<Entry>,
    pub(super) most_running: usize,
    space: SearchSpace,
    trials: Vec<State>,
    limit: u32,
    /// A trial without `until` ends by itself here.
    length: u64,
    key: Key,
    draws: u64,
    luck: Luck,
    /// How often what is to be chosen is worked out aside, and what of it is not back yet.
    aside: f64,
    away: Option<Choices>,
}

/// The job with this scheduler and so many trials of at most 30 epochs.
pub(super) fn job(scheduler: &str, trials: u32, seed: u64) -> Document {
    let spec = format!(
        "name: a\nseed: {seed}\nentrypoint: {{command: [none]}}\n\
         searcher: {{name: random, max_trials: {trials}}}\n\
         objectives: [{{metric: loss, mode: minimize}}]\nscheduler: {{{scheduler}}}\n\
         hyperparameters:\n  lr: {{type: double, minval: 1e-4, maxval: 1, log: true}}\n  \
         units: {{type: int, minval: 1, maxval: 64}}\n  \
         optimizer: {{type: categorical, vals: [sgd, adam]}}\n  \
         momentum: {{type: double, minval: 0, maxval: 0.9, when: {{optimizer: sgd}}}}\n"
    );
    Document::parse(&spec).unwrap()
}

impl World {
    pub(super) fn new(job: &Document, seed: u64, luck: Luck) -> Self {
        let job = job.job();
        Self {
            scheduler: Scheduler::of(job),
            log: Vec::new(),
            most_running: 0,
            space: SearchSpace::new(&job.hyperparameters).unwrap(),
            trials: Vec::new(),
            limit: job.searcher.max_trials.unwrap(),
            length: 30,
            key: Key::new(seed).named("world"),
            draws: 0,
            luck,
            aside: 0.0,
            away: None,
        }
    }

    /// Has choices worked out beside it, after each entry with this probability; they are back some entries later.
    pub(super) fn aside(mut self, probability: f64) -> Self {
        self.aside = probability;
        self
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.draws += 1;
        self.key.unit(self.draws) < probability
    }

    fn pick(&mut self, among: usize) -> usize {
        self.draws += 1;
        self.key.below(self.draws, among as u64) as usize
    }

    fn all(&self, wanted: impl Fn(State) -> bool) -> Vec<usize> {
        let trials = self.trials.iter().enumerate();
        trials
            .filter(|(_, state)| wanted(**state))
            .map(|(number, _)| number)
            .collect()
    }

    fn running(&self) -> Vec<usize> {
        self.all(|state| matches!(state, State::Runs(_)))
    }

    /// Runs the search to its end on so many workers. `check` sees the scheduler after each entry.
    pub(super) fn run(&mut self, workers: usize, mut check: impl FnMut(&Scheduler, &[Entry])) {
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < 200_000, "it never ends");
            self.fill(workers, &mut check);
            let running = self.running();
            self.most_running = self.most_running.max(running.len());
            if running.is_empty() {
                assert!(!self.scheduler.admits(), "it hangs");
                break;
            }
            let trial = running[self.pick(running.len())];
            self.epoch(trial, &mut check);
            let waiting = self.all(|state| state == State::Waits);
            if !waiting.is_empty() && self.happens(self.luck.ended) {
                let trial = waiting[self.pick(waiting.len())];
                self.end(trial, Some(0.0), &mut check);
            }
            if self.happens(self.luck.closed) {
                self.close(&mut check);
            }
        }
        // Nothing goes on: those that wait end, and nothing comes of it.
        while let Some(&trial) = self.scheduler.eliminated().first() {
            self.end(trial.0 as usize, None, &mut check);
        }
        for trial in self.all(|state| state == State::Waits) {
            self.end(trial, None, &mut check);
            assert_eq!(self.scheduler.promotable(), None);
        }
        assert!(self.trials.iter().all(|state| *state == State::Ended));
        assert_eq!(self.scheduler.eliminated(), []);
    }

    fn fill(&mut self, workers: usize, check: &mut impl FnMut(&Scheduler, &[Entry])) {
        while self.running().len() < workers {
            if let Some(next) = self.scheduler.promotable() {
                let trial = next.trial;
                let number = trial.0 as usize;
                assert_eq!(self.trials[number], State::Waits, "{trial} does not wait");
                assert_eq!(self.scheduler.waits(trial), Some(next.rung));
                let from = self.scheduler.from(trial);
                if let Some(source) = next.clone {
                    assert_eq!(source.resource, from, "training times are equal");
                    assert!(self.scheduler.keeps(source.trial, source.resource));
                }
                let known = self.scheduler.choices().is_none();
                let promoted = self.scheduler.promote(trial).unwrap();
                if known {
                    assert_eq!(promoted, next);
                }
                let next = promoted;
                if let Some(params) = &next.params {
                    self.space.contains(params).unwrap();
                }
                assert_eq!(
                    (self.scheduler.waits(trial), self.scheduler.from(trial)),
                    (None, from)
                );
                assert!(self.scheduler.until(trial).unwrap() > from);
                self.trials[number] = State::Runs(from);
                self.tell(Entry::Promoted(next), check);
            } else if self.scheduler.admits() {
                if self.trials.len() as u32 == self.limit {
                    self.close(check);
                    continue;
                }
                let trial = TrialId(self.trials.len() as u32);
                let params = self.space.sample(self.key.with(u64::from(trial.0)));
                let first = self.scheduler.first_resource();
                self.scheduler.begun(trial, &params);
                if let Some(first) = first {
                    assert!(self.scheduler.until(trial) >= Some(first));
                    assert!(self.scheduler.reaches(trial, first).is_some());
                    assert_eq!(self.scheduler.reaches(trial, first - 1), None);
                }
                assert_eq!(self.scheduler.from(trial), 0);
                self.trials.push(State::Runs(0));
                self.tell(Entry::Begun(trial, params), check);
            } else {
                return;
            }
        }
    }

    fn close(&mut self, check: &mut impl FnMut(&Scheduler, &[Entry])) {
        if self.scheduler.admits() {
            self.scheduler.close();
            assert!(!self.scheduler.admits());
            self.tell(Entry::Closed, check);
        }
    }

    /// One epoch of a trial, and what may happen after it.
    fn epoch(&mut self, number: usize, check: &mut impl FnMut(&Scheduler, &[Entry])) {
        let trial = TrialId(number as u32);
        let State::Runs(before) = self.trials[number] else {
            unreachable!();
        };
        if self.happens(self.luck.preempted) {
            // Its newest checkpoint is where the scheduler knows it, or before.
            let from = self.scheduler.from(trial);
            let back = from.saturating_sub(self.pick(2) as u64);
            self.trials[number] = State::Runs(back.min(before));
            return;
        }
        if self.happens(self.luck.fails) {
            self.end(number, None, check);
            return;
        }
        let resource = before + 1;
        self.trials[number] = State::Runs(resource);
        let until = self.scheduler.until(trial);
        let missing = self.happens(self.luck.no_value);
        let drawn = self
            .key
            .with(number as u64)
            .below(resource, self.luck.values) as f64;
        let value = (!missing).then_some(drawn);
        if let Some(counted) = self.scheduler.reaches(trial, resource) {
            assert!(
                resource > self.scheduler.from(trial),
                "nothing counts twice"
            );
            let verdict = self.scheduler.reached(trial, resource, value);
            self.tell(
                Entry::Reached {
                    trial,
                    number: counted,
                    resource,
                    value,
                    verdict,
                },
                check,
            );
            match verdict {
                Verdict::Continue => assert_ne!(Some(resource), until),
                Verdict::Pause => {
                    assert_eq!(until, Some(resource));
                    assert_eq!(self.scheduler.waits(trial), Some(counted));
                    self.trials[number] = State::Waits;
                }
                Verdict::Done | Verdict::Stop => {
                    assert_eq!(verdict == Verdict::Done, until == Some(resource));
                    self.end(number, value, check);
                }
            }
            assert_eq!(self.scheduler.from(trial), resource, "{verdict:?}");
        } else {
            assert_ne!(until, Some(resource), "its last result counts");
        }
        let goes_on = matches!(self.trials[number], State::Runs(_));
        if until.is_none() && goes_on && resource == self.length {
            self.end(number, value, check);
        }
    }

    fn end(
        &mut self,
        number: usize,
        value: Option<f64>,
        check: &mut impl FnMut(&Scheduler, &[Entry]),
    ) {
        assert_ne!(self.trials[number], State::Ended, "{number} ended twice");
        self.trials[number] = State::Ended;
        let trial = TrialId(number as u32);
        self.scheduler.ended(trial, value);
        assert_eq!(self.scheduler.reaches(trial, u64::MAX), None);
        assert_eq!(self.scheduler.waits(trial), None);
        self.tell(Entry::Ended(trial, value), check);
    }

    fn tell(&mut self, entry: Entry, check: &mut impl FnMut(&Scheduler, &[Entry])) {
        self.log.push(entry);
        let luck = self.key.named("aside").unit(self.log.len() as u64);
        if luck < self.aside {
            match self.away.take() {
                Some(choices) => self.scheduler.chosen(choices.work_out()),
                None => self.away = self.scheduler.choices().cloned(),
            }
        }
        check(&self.scheduler, &self.log);
    }
}

/// Tells a fresh scheduler a log; it gives every answer again. `adopts`: it is told what was chosen.
pub(super) fn replay(job: &Document, log: &[Entry], adopts: bool) -> Scheduler {
    let mut scheduler = Scheduler::of(job.job());
    for entry in log {
        match entry {
            Entry::Begun(trial, params) => scheduler.begun(*trial, params),
            Entry::Promoted(told) => {
                if let Some(params) = told.params.as_ref().filter(|_| adopts) {
                    scheduler.adopt(params.clone());
                    assert!(scheduler.choices().is_none(), "it is known");
                }
                assert_eq!(scheduler.promote(told.trial).as_ref(), Some(told));
            }
            Entry::Reached {
                trial,
                number,
                resource,
                value,
                verdict,
            } => {
                assert_eq!(scheduler.reaches(*trial, *resource), Some(*number));
                assert_eq!(scheduler.reached(*trial, *resource, *value), *verdict);
            }
            Entry::Ended(trial, value) => scheduler.ended(*trial, *value),
            Entry::Closed => {
                scheduler.close();
            }
        }
    }
    scheduler
}

const ALL: [&str; 18] = [
    "name: fifo",
    "name: auto, max_resource: 27",
    "name: auto, max_resource: 20, min_resource: 2, eta: 2",
    "name: asha, max_resource: 27",
    "name: asha, max_resource: 20, eta: 2, brackets: 3",
    "name: asha, max_resource: 27, variant: stopping",
    "name: async_hyperband, max_resource: 27",
    "name: async_hyperband, max_resource: 20, min_resource: 3, eta: 2, variant: stopping",
    "name: sha, max_resource: 9",
    "name: sha, max_resource: 20, min_resource: 2, eta: 2, bracket_trials: 21",
    "name: hyperband, max_resource: 27",
    "name: hyperband, max_resource: 20, eta: 2, bracket_rounding: ceil",
    "name: median_stopping, min_trials: 2, interval: 2",
    "name: early_stopping, patience: 3, max_resource: 25",
    "name: pbt, max_resource: 20, interval: 3",
    "name: pbt, max_resource: 20, interval: 4, synchronous: false, population: 12",
    "name: pb2, max_resource: 20, interval: 3",
    "name: pb2, max_resource: 24, interval: 2, synchronous: false, quantile: 0.4",
];

#[test]
fn every_search_ends_and_replays() {
    for (index, scheduler) in (0u64..).zip(ALL) {
        for seed in 0..12 {
            let luck = match seed % 4 {
                0 => FAIR,
                1 => Luck {
                    fails: 0.2,
                    ..ROUGH
                },
                _ => ROUGH,
            };
            let few = if scheduler.contains("population") {
                12
            } else {
                2
            };
            let trials = [few, 17, 60][seed as usize % 3];
            let job = job(scheduler, trials, seed);
            let mut world = World::new(&job, seed * 100 + index, luck);
            world.run([1, 4, 9][seed as usize / 4], |_, _| {});
            let begun = world
                .log
                .iter()
                .filter(|entry| matches!(entry, Entry::Begun(..)));
            if luck.closed == 0.0 && !scheduler.contains("population") {
                assert_eq!(begun.count(), trials as usize, "{scheduler}");
            }
            for adopts in [false, true] {
                let replayed = replay(&job, &world.log, adopts);
                assert_eq!(replayed.promotable(), world.scheduler.promotable());
            }
        }
    }
}

/// PB2's choices are the same whenever they are worked out, and whatever comes in meanwhile.
#[test]
fn choices_do_not_depend_on_when_they_are_worked_out() {
    let (mut chosen, mut aside) = (0, 0);
    for scheduler in ALL.into_iter().filter(|name| name.contains("pb2")) {
        for seed in 0..24 {
            let luck = if seed % 2 == 0 { FAIR } else { ROUGH };
            let job = job(scheduler, [5, 16, 40][seed as usize % 3], seed);
            let workers = [2, 5, 16][seed as usize / 8];
            let mut at_once = World::new(&job, seed, luck);
            at_once.run(workers, |_, _| {});
            let mut late = World::new(&job, seed, luck).aside(0.6);
            let mut pending = false;
            late.run(workers, |scheduler, _| {
                let now = scheduler.choices().is_some();
                aside += usize::from(pending && !now);
                pending = now;
            });
            assert!(late.log == at_once.log, "{scheduler}, seed {seed}");
            let changes =
                |entry: &&Entry| matches!(entry, Entry::Promoted(told) if told.params.is_some());
            chosen += late.log.iter().filter(changes).count();
        }
    }
    assert!(chosen > 500 && aside > 100, "{chosen} {aside}");
}
