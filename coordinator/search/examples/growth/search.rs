//! A search that grows: the production searcher and scheduler, driven as the coordinator does, and its log.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Map, Value, json};
use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::spec::{Document, Params};
use trainyard_search::schedule::{Scheduler, Verdict};
use trainyard_search::search::{Observation, Outcome, Searcher};

use super::clock::Clock;

/// Rungs at 1, 3, 9, 27 and 81; members of a population are ranked after each of as many stretches as they need.
const RUNGS: u64 = 81;
const STRETCHES: u64 = 100_000;
const MOST_TRIALS: u32 = 100_000;

pub(crate) struct Method {
    scheduler: String,
    searcher: String,
    objectives: usize,
    members: Option<u32>,
}

impl Method {
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let unknown =
            || format!("{name}: not SCHEDULER+SEARCHER, perhaps with ` of N`, nor `pb2 N`");
        let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
        let (method, objectives) = match name.split_once(" of ") {
            Some((method, objectives)) => (method, number(objectives)?),
            None => (name, 1),
        };
        let (scheduler, searcher, members) = match (method.split_once('+'), method.split_once(' '))
        {
            (Some((scheduler, searcher)), _) => (scheduler, searcher, None),
            (None, Some((scheduler, members))) => (scheduler, "random", Some(number(members)?)),
            (None, None) => return Err(unknown()),
        };
        Ok(Self {
            scheduler: scheduler.to_owned(),
            searcher: searcher.to_owned(),
            objectives: objectives as usize,
            members,
        })
    }

    fn document(&self, axes: usize) -> Result<Document, String> {
        let double = json!({"type": "double", "minval": 0.0, "maxval": 1.0});
        let axis = |axis: usize| (format!("x{axis}"), double.clone());
        let space: Map<String, Value> = (0..axes).map(axis).collect();
        let objective = |at: usize| json!({"metric": format!("f{at}"), "mode": "minimize"});
        let objectives: Vec<Value> = (0..self.objectives).map(objective).collect();
        let scheduler = match self.members {
            Some(_) => json!({"name": self.scheduler, "max_resource": STRETCHES, "quantile": 0.5}),
            None => json!({"name": self.scheduler, "max_resource": RUNGS}),
        };
        let spec = json!({
            "name": "growth",
            "entrypoint": {"command": ["none"]},
            "searcher": {"name": self.searcher, "max_trials": self.members.unwrap_or(MOST_TRIALS)},
            "objectives": objectives,
            "scheduler": scheduler,
            "hyperparameters": space,
        });
        Document::parse(&spec.to_string()).map_err(|errors| format!("{errors:?}"))
    }
}

enum Entry {
    Begun(TrialId, Params),
    Reached(TrialId, u64, Option<f64>, Vec<f64>),
    Promoted(TrialId, Option<Params>),
    Ended(TrialId, Vec<f64>),
}

pub(crate) struct Search {
    document: Document,
    objectives: usize,
    searcher: Searcher,
    scheduler: Scheduler,
    params: Vec<Params>,
    running: VecDeque<TrialId>,
    at_once: usize,
    log: Vec<Entry>,
    results: usize,
    /// Milliseconds of the longest that was worked out for promotions, which a coordinator does beside its loop.
    beside: f64,
}

impl Search {
    pub(crate) fn new(method: &Method, axes: usize) -> Result<Self, String> {
        let document = method.document(axes)?;
        Ok(Self {
            searcher: Searcher::of(document.job()).map_err(|error| error.to_string())?,
            scheduler: Scheduler::of(document.job()),
            objectives: method.objectives,
            params: Vec::new(),
            running: VecDeque::new(),
            // One worker never waits for others; a population trains all at once.
            at_once: method.members.map_or(1, |members| members as usize),
            log: Vec::new(),
            results: 0,
            beside: 0.0,
            document,
        })
    }

    pub(crate) fn results(&self) -> usize {
        self.results
    }

    pub(crate) fn trials(&self) -> usize {
        self.params.len()
    }

    /// The longest since this was asked.
    pub(crate) fn beside(&mut self) -> f64 {
        std::mem::take(&mut self.beside)
    }

    /// Works out what the next promotion lacks.
    fn work_out(&mut self) {
        if let Some(choices) = self.scheduler.choices().cloned() {
            let begun = Instant::now();
            let chosen = choices.work_out();
            self.beside = self.beside.max(begun.elapsed().as_secs_f64() * 1e3);
            self.scheduler.chosen(chosen);
        }
    }

    /// Takes in one result: the ms of the dearest call meanwhile. `None`: the search is over.
    pub(crate) fn step(&mut self) -> Option<f64> {
        let mut dearest = 0.0;
        while self.running.len() < self.at_once {
            self.work_out();
            let begun = Instant::now();
            let filled = self.fill();
            dearest = f64::max(dearest, begun.elapsed().as_secs_f64());
            if filled.is_none() {
                break;
            }
        }
        let trial = self.running.pop_front()?;
        let resource = self.scheduler.until(trial).unwrap_or(RUNGS);
        let values = self.values(trial, resource);
        let value = values.first().copied();
        let several: Vec<f64> = if self.objectives > 1 {
            values
        } else {
            Vec::new()
        };
        let begun = Instant::now();
        self.searcher.reached(trial, resource, value);
        let verdict = self
            .scheduler
            .reached_with(trial, resource, value, &several);
        self.log
            .push(Entry::Reached(trial, resource, value, several.clone()));
        match verdict {
            Verdict::Continue => self.running.push_back(trial),
            Verdict::Pause => {}
            Verdict::Done | Verdict::Stop => {
                self.searcher.observe(&Observation {
                    trial,
                    outcome: Outcome::Completed { value },
                    values: several.clone(),
                });
                self.scheduler.ended_with(trial, value, &several);
                self.log.push(Entry::Ended(trial, several));
            }
        }
        self.results += 1;
        Some(f64::max(dearest, begun.elapsed().as_secs_f64()) * 1e3)
    }

    /// Lets a trial run that is promoted or new.
    fn fill(&mut self) -> Option<()> {
        if let Some(trial) = self.scheduler.promotable().map(|next| next.trial) {
            let promotion = self.scheduler.promote(trial)?;
            self.searcher.promoted(trial);
            let params = promotion.params;
            self.log.push(Entry::Promoted(trial, params.clone()));
            if let Some(params) = params {
                self.params[trial.0 as usize] = params;
            }
            self.running.push_back(trial);
            return Some(());
        }
        if !self.scheduler.admits() {
            return None;
        }
        let trial = TrialId(self.params.len() as u32);
        let first = self.scheduler.first_resource();
        let params = self.searcher.suggest(trial, first)?;
        self.scheduler.begun(trial, &params);
        self.log.push(Entry::Begun(trial, params.clone()));
        self.params.push(params);
        self.running.push_back(trial);
        Some(())
    }

    /// Of one objective a bowl that is seen sharper at a higher resource; of several a plane on which none is better
    /// than another.
    fn values(&self, trial: TrialId, resource: u64) -> Vec<f64> {
        let places = self.params[trial.0 as usize].values();
        let places: Vec<f64> = places.filter_map(Value::as_f64).collect();
        let noise = Key::new(u64::from(trial.0)).unit(resource) / resource as f64;
        let bowl: f64 = places.iter().map(|x| (x - 0.3) * (x - 0.3)).sum();
        if self.objectives == 1 {
            return vec![bowl + noise];
        }
        let mut values = vec![bowl + noise];
        values.extend(places.iter().cycle().take(self.objectives - 2));
        values.push(-values.iter().sum::<f64>());
        values
    }

    /// The ms that a fresh scheduler takes for the log.
    pub(crate) fn replay(&self) -> Result<f64, String> {
        let mut scheduler = Scheduler::of(self.document.job());
        let clock = Clock::start();
        for entry in &self.log {
            match entry {
                Entry::Begun(trial, params) => scheduler.begun(*trial, params),
                Entry::Reached(trial, resource, value, values) => {
                    scheduler.reached_with(*trial, *resource, *value, values);
                }
                Entry::Promoted(trial, params) => {
                    if let Some(params) = params {
                        scheduler.adopt(params.clone());
                    }
                    let next = scheduler.promote(*trial);
                    next.ok_or_else(|| format!("trial {trial} is promoted no more"))?;
                }
                Entry::Ended(trial, values) => {
                    scheduler.ended_with(*trial, values.first().copied(), values);
                }
            }
        }
        Ok(clock.ms())
    }
}
