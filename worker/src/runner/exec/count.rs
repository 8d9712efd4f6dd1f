//! PURE: which epoch and step a report stands for, when a rung is reached, and what a person is told of it once.
//!
//! Knows nothing of where reports come from nor where they go.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::spec::error::near;
use trainyard_proto::v1::{Metric, Progress};

use super::said::Said;

/// What is known of a trial before its attempt begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Metrics that decide; an epoch has its result once all of them were reported.
    pub(super) objectives: Vec<String>,
    /// Complete epochs until which the attempt is to train.
    pub(super) until: Option<u64>,
    /// `entrypoint.first_epoch`: 0 or 1 where the program's counting was said.
    pub(super) first_epoch: Option<u32>,
    /// An earlier attempt's epochs were seen to be counted from 0.
    pub(super) from_zero: bool,
    /// The last epoch and step that count for the trial.
    pub(super) reported: (u64, u64),
    /// Complete epochs and the step of the checkpoint from which the attempt goes on.
    pub(super) restored: Option<(u64, u64)>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Counted {
    /// What is told to the coordinator; none where it lies behind the rung.
    pub(super) progress: Option<Progress>,
    /// What a person is told.
    pub(super) notes: Vec<String>,
    /// The attempt has come as far as it was to train.
    pub(super) reached: bool,
}

/// Notes that are made once in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Note {
    FromZero,
    Again,
    Back,
    Beyond,
    Objective,
    Trimmed,
}

/// Where the reports of an attempt have come.
#[derive(Debug)]
pub(super) struct Count {
    known: Known,
    /// Whether epochs are counted from 0, once that is known.
    from_zero: Option<bool>,
    /// Whether a report has named its epoch.
    numbered: bool,
    /// Whether anything was reported.
    begun: bool,
    epoch: u64,
    step: u64,
    /// The step as the newest report gave it.
    given_step: Option<u64>,
    /// What was reported of this epoch, the newest of each name.
    metrics: BTreeMap<String, f64>,
    /// The epoch at which the rung was reached.
    reached: Option<u64>,
    told: BTreeSet<Note>,
}

impl Count {
    pub(super) fn new(known: Known) -> Self {
        let said = known.first_epoch.map(|first| first == 0);
        // Who has reported epochs has shown how it counts them.
        let earlier = (known.reported.0 > 0 || known.from_zero).then_some(known.from_zero);
        let (epoch, step) = known.restored.unwrap_or_default();
        Self {
            from_zero: said.or(earlier),
            numbered: false,
            begun: false,
            epoch,
            step,
            given_step: None,
            metrics: BTreeMap::new(),
            reached: None,
            told: BTreeSet::new(),
            known,
        }
    }

    /// The epoch and step of the newest report, or where the attempt begins.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.epoch, self.step)
    }

    /// What was reported of an epoch, if it is the newest.
    pub(super) fn metrics_of(&self, epoch: u64) -> Vec<(String, f64)> {
        let metrics = self.metrics.iter().filter(|_| epoch == self.epoch);
        metrics
            .map(|(name, value)| (name.clone(), *value))
            .collect()
    }

    /// An epoch as the program names it, as complete epochs.
    pub(super) fn complete(&self, given: u64) -> u64 {
        given.saturating_add(u64::from(self.from_zero == Some(true)))
    }

    /// Takes a report in.
    pub(super) fn report(&mut self, said: Said) -> Counted {
        let mut notes = Vec::new();
        if let Some(given) = &said.trimmed {
            self.note(Note::Trimmed, &mut notes, || {
                format!(
                    "the metric {given:?} is taken as {:?}: blanks around a name do not count",
                    given.trim()
                )
            });
        }
        self.learn(&said, &mut notes);
        let epoch = self.epoch_of(&said);
        if let Some(rung) = self.reached.filter(|rung| epoch > *rung) {
            self.note(Note::Beyond, &mut notes, || beyond(rung));
            return Counted {
                notes,
                ..Counted::default()
            };
        }
        let new = epoch != self.epoch || !self.begun;
        let step = self.step_of(&said, epoch, &mut notes);
        if new {
            self.missing(&mut notes);
            self.metrics.clear();
        }
        self.again((epoch, step), &mut notes);
        self.begun = true;
        (self.epoch, self.step, self.given_step) = (epoch, step, said.step);
        self.metrics.extend(said.metrics.iter().cloned());
        // Nothing that comes can belong to its epoch, or all of it is there.
        let alone = !self.numbered && said.step.is_none();
        if alone || said.checkpoint.is_some() {
            self.missing(&mut notes);
        }
        let whole = self
            .known
            .objectives
            .iter()
            .all(|name| self.metrics.contains_key(name));
        let there = whole && self.known.until.is_some_and(|until| epoch >= until);
        let reached = there && self.reached.is_none();
        if reached {
            self.reached = Some(epoch);
        }
        let metrics = said.metrics.into_iter();
        let progress = Progress {
            step,
            epoch,
            metrics: metrics
                .map(|(name, value)| Metric { name, value })
                .collect(),
            end_of_epoch: true,
            epochs_from_zero: self.from_zero == Some(true),
        };
        Counted {
            progress: Some(progress),
            notes,
            reached,
        }
    }

    /// A checkpoint of an epoch is made: if it is the newest, its reports are there.
    pub(super) fn saved(&mut self, epoch: u64) -> Vec<String> {
        let mut notes = Vec::new();
        if epoch == self.epoch {
            self.missing(&mut notes);
        }
        notes
    }

    /// What is told at the attempt's end.
    pub(super) fn end(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        self.missing(&mut notes);
        notes
    }

    fn note(&mut self, note: Note, notes: &mut Vec<String>, text: impl FnOnce() -> String) {
        if self.told.insert(note) {
            notes.push(text());
        }
    }

    /// The first report that names its epoch shows whether they are counted from 0.
    fn learn(&mut self, said: &Said, notes: &mut Vec<String>) {
        let Some(given) = said.epoch else { return };
        self.numbered = true;
        if said.complete || self.from_zero.is_some() {
            return;
        }
        // After so many complete epochs the next is numbered the same by who counts from 0.
        let zero = given == 0 || self.known.restored.is_some_and(|(epoch, _)| epoch == given);
        self.from_zero = Some(zero);
        if zero {
            self.note(Note::FromZero, notes, || {
                format!(
                    "the program counts its epochs from 0: its epoch {given} is taken as the {}. (`entrypoint.first_epoch: 1` in the spec says otherwise)",
                    given.saturating_add(1)
                )
            });
        }
    }

    fn epoch_of(&self, said: &Said) -> u64 {
        if let Some(given) = said.epoch {
            return match said.complete {
                true => given,
                false => self.complete(given),
            };
        }
        let same_step = self.begun && said.step.is_some() && said.step == self.given_step;
        if self.numbered || same_step {
            return self.epoch;
        }
        let next = self.epoch.saturating_add(1);
        let (epoch, step) = self.known.reported;
        // Its own step says that it goes on from a file of its own, where the trial has come to.
        match said.step {
            Some(given) if epoch > 0 && given > step => next.max(epoch.saturating_add(1)),
            _ => next,
        }
    }

    fn step_of(&mut self, said: &Said, epoch: u64, notes: &mut Vec<String>) -> u64 {
        let same = self.begun && epoch == self.epoch;
        let before = if same { self.step } else { 0 };
        let back = self.begun && epoch < self.epoch;
        if back || said.step.is_some_and(|given| given < before) {
            let (from, step) = self.position();
            let to = said.step.map(|given| format!(", step {given}"));
            self.note(Note::Back, notes, || {
                format!(
                    "reports go back from epoch {from}, step {step} to epoch {epoch}{}: only what comes after what was reported counts",
                    to.unwrap_or_default()
                )
            });
        }
        if let Some(given) = said.step {
            return given.max(before);
        }
        // Counted on from what the trial has, where this is new to it.
        let known = match epoch > self.known.reported.0 {
            true => self.known.reported.1,
            false => 0,
        };
        self.step.max(known).saturating_add(1)
    }

    /// Tells that an earlier attempt has reported this already.
    fn again(&mut self, position: (u64, u64), notes: &mut Vec<String>) {
        let reported = self.known.reported;
        if position <= reported && reported.0 > 0 {
            self.note(Note::Again, notes, || {
                format!(
                    "epoch {} was reported by an earlier attempt: epochs {0} to {} are not counted again",
                    position.0, reported.0
                )
            });
        }
    }

    /// Tells that the epoch that is over had no value of an objective.
    fn missing(&mut self, notes: &mut Vec<String>) {
        if !self.begun || self.told.contains(&Note::Objective) {
            return;
        }
        let mut objectives = self.known.objectives.iter();
        let Some(missing) = objectives
            .find(|name| !self.metrics.contains_key(*name))
            .cloned()
        else {
            return;
        };
        let names: Vec<&str> = self.metrics.keys().map(String::as_str).collect();
        let meant = meant(&missing, &names).map(|name| format!("; did you mean `{name}`?"));
        let text = format!(
            "the objective `{missing}` is not among the metrics of epoch {}, which are {}{}: without it the trial has no value",
            self.epoch,
            listed(&names),
            meant.unwrap_or_default()
        );
        self.note(Note::Objective, notes, || text);
    }
}

fn beyond(rung: u64) -> String {
    format!(
        "the program trains on beyond epoch {rung}, until which it was to train, and what it reports there does not count: let it end after TRAINYARD_UNTIL_EPOCH epochs, or once the channel says stop (should_stop)"
    )
}

/// The name that was meant by an objective: one of nearly the same letters, or one that holds it.
fn meant<'a>(objective: &str, names: &[&'a str]) -> Option<&'a str> {
    let lower = objective.to_lowercase();
    let holds = |name: &&str| {
        let name = name.to_lowercase();
        !name.is_empty() && (name.contains(&lower) || lower.contains(&name))
    };
    near(objective, names.iter().copied())
        .or_else(|| names.iter().copied().find(|name| holds(name)))
}

/// Names, not too many of them.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => {
            format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
