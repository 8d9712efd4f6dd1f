//! PURE: updates of a status turned into reports.
//!
//! An update names the newest value of everything that was ever logged, whether or not it is new, at most every five
//! seconds; `epoch` is where the newest of them was logged. So an epoch's evaluation comes with the first update
//! after it, under the whole number of epochs at which it was made.

use std::collections::BTreeMap;

use super::wire::Update;
use crate::runner::exec::said::Said;

/// Fractions of epochs are sums of steps.
const TOLERANCE: f64 = 1e-6;
/// Where an update stands, and no result.
const PLACE: [&str; 4] = ["epoch", "current_epoch", "current_step", "total_steps"];
/// What is logged together: names with the same beginning, of the others all.
const TOGETHER: [&str; 3] = ["eval_", "test_", "train_"];

/// What an update comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Turned {
    /// A report of an epoch that is complete.
    Epoch(Said),
    /// What was logged within an epoch, after so many complete ones.
    Within {
        epoch: u64,
        step: u64,
        metrics: Vec<(String, f64)>,
    },
}

/// What earlier updates have said.
#[derive(Debug, Default)]
pub(super) struct Turning {
    known: BTreeMap<String, f64>,
    step: Option<u64>,
    /// Complete epochs that were reported.
    reported: u64,
}

impl Turning {
    /// `None`: it says nothing new.
    pub(super) fn turn(&mut self, update: &Update) -> Option<Turned> {
        let place = |name| {
            let mut metrics = update.metrics.iter();
            metrics.find(|(known, _)| known == name).map(|(_, at)| *at)
        };
        let whole = |at: f64| (at.is_finite() && at >= 0.0).then_some((at + TOLERANCE) as u64);
        let complete = place("epoch")
            .or_else(|| place("current_epoch"))
            .and_then(whole);
        self.step = place("current_step").and_then(whole).or(self.step);
        let metrics = self.news(update);
        if metrics.is_empty() {
            return None;
        }
        let epoch = match complete {
            // Training that has ended is complete, however short it was.
            Some(epoch) if update.finished => Some(epoch.max(1)),
            complete => complete,
        };
        let ends = epoch.is_none_or(|epoch| {
            let is_new = epoch > self.reported;
            epoch > 0 && (is_new || update.finished || metrics.iter().any(|(name, _)| judges(name)))
        });
        if !ends {
            return Some(Turned::Within {
                epoch: epoch.unwrap_or_default(),
                step: self.step.unwrap_or_default(),
                metrics,
            });
        }
        self.reported = self.reported.max(epoch.unwrap_or_default());
        Some(Turned::Epoch(Said {
            metrics,
            epoch,
            step: self.step,
            complete: true,
            ..Said::default()
        }))
    }

    /// What was logged since the last update: where one of what is logged together has changed, all have.
    fn news(&mut self, update: &Update) -> Vec<(String, f64)> {
        let results = update.metrics.iter();
        let results: Vec<&(String, f64)> = results
            .filter(|(name, _)| !PLACE.contains(&name.as_str()))
            .collect();
        let is_new = |(name, value): &(String, f64)| {
            let known = self.known.get(name);
            known.map(|known| known.to_bits()) != Some(value.to_bits())
        };
        let new: Vec<&str> = results
            .iter()
            .filter(|metric| is_new(metric))
            .map(|(name, _)| beginning(name))
            .collect();
        let news: Vec<(String, f64)> = results
            .into_iter()
            .filter(|(name, _)| new.contains(&beginning(name)))
            .cloned()
            .collect();
        self.known.extend(news.iter().cloned());
        news
    }
}

fn beginning(name: &str) -> &'static str {
    let known = TOGETHER.into_iter();
    let mut known = known.filter(|beginning| name.starts_with(beginning));
    known.next().unwrap_or_default()
}

/// Whether a metric is made by an evaluation.
fn judges(name: &str) -> bool {
    matches!(beginning(name), "eval_" | "test_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(percent: u32, metrics: &[(&str, f64)]) -> Update {
        let metrics = metrics.iter();
        Update {
            finished: percent == 100,
            metrics: metrics
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        }
    }

    fn names(metrics: &[(String, f64)]) -> Vec<&str> {
        metrics.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// `epoch step names`, of one that ends an epoch.
    fn said(turned: Option<Turned>) -> Option<(Option<u64>, Option<u64>, String)> {
        match turned? {
            Turned::Epoch(said) => Some((said.epoch, said.step, names(&said.metrics).join(" "))),
            Turned::Within { .. } => None,
        }
    }

    #[test]
    fn an_evaluation_belongs_to_the_epoch_after_which_it_was_made() {
        let mut turning = Turning::default();
        assert_eq!(turning.turn(&update(0, &[("total_steps", 40.0)])), None);
        let within = turning.turn(&update(
            10,
            &[
                ("loss", 2.0),
                ("epoch", 0.4),
                ("current_step", 5.0),
                ("current_epoch", 0.5),
            ],
        ));
        let Some(Turned::Within { epoch, step, .. }) = within else {
            panic!("{within:?}");
        };
        assert_eq!((epoch, step), (0, 5));
        // The first update after the end of epoch 1: its evaluation was logged last.
        let one = [
            ("loss", 1.0),
            ("epoch", 1.0),
            ("eval_loss", 0.5),
            ("eval_accuracy", 0.5),
            ("current_step", 12.0),
            ("current_epoch", 1.2),
        ];
        let first = said(turning.turn(&update(30, &one)));
        let expected = "loss eval_loss eval_accuracy".to_owned();
        assert_eq!(first, Some((Some(1), Some(12), expected)));
        assert_eq!(turning.turn(&update(30, &one)), None, "nothing is new");
        // At the last step of epoch 2 the evaluation of epoch 1 is still the newest.
        let mut two = one;
        (two[0].1, two[1].1, two[4].1, two[5].1) = (0.9, 1.9, 20.0, 2.0);
        let turned = turning.turn(&update(50, &two));
        let expected = Turned::Within {
            epoch: 1,
            step: 20,
            metrics: vec![("loss".to_owned(), 0.9)],
        };
        assert_eq!(turned, Some(expected));
        // The evaluation of epoch 2, of which one value is what it was.
        (two[1].1, two[2].1, two[4].1) = (2.0, 0.4, 21.0);
        let second = said(turning.turn(&update(52, &two)));
        let expected = "eval_loss eval_accuracy".to_owned();
        assert_eq!(second, Some((Some(2), Some(21), expected)));
        // The end names no step.
        let end = [("epoch", 4.0), ("eval_loss", 0.3), ("train_loss", 0.7)];
        let end = said(turning.turn(&update(100, &end)));
        let expected = "eval_loss train_loss".to_owned();
        assert_eq!(end, Some((Some(4), Some(21), expected)));
    }

    #[test]
    fn training_that_ends_within_its_first_epoch_is_a_result() {
        let mut turning = Turning::default();
        let end = turning.turn(&update(100, &[("train_loss", 0.7), ("epoch", 0.05)]));
        assert_eq!(said(end), Some((Some(1), None, "train_loss".to_owned())));
    }

    #[test]
    fn without_epochs_each_update_is_a_report() {
        let mut turning = Turning::default();
        let turned = turning.turn(&update(10, &[("loss", f64::NAN), ("current_step", 3.0)]));
        assert_eq!(said(turned), Some((None, Some(3), "loss".to_owned())));
        let turned = turning.turn(&update(20, &[("loss", f64::NAN), ("current_step", 4.0)]));
        assert_eq!(turned, None);
    }
}
