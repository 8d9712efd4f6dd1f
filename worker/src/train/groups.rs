//! Learning rates of parameters that have one of their own. Pure.

use trainyard_common::spec::training::ParameterRule;

/// Which of several learning rates each parameter has that is trained.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Besides the optimizer's.
    others: Vec<f64>,
    /// Of each parameter that is trained, in order: 0 for the optimizer's, else one more than the position among the
    /// others.
    of: Vec<usize>,
}

impl Groups {
    /// `rules`: of each parameter.
    pub(super) fn new(rules: &[Option<&ParameterRule>]) -> Self {
        let mut groups = Self::default();
        for rule in rules {
            match rule {
                Some(rule) if rule.frozen => {}
                Some(rule) => groups.push(rule.learning_rate),
                None => groups.push(None),
            }
        }
        groups
    }

    fn push(&mut self, rate: Option<f64>) {
        let Some(rate) = rate else {
            return self.of.push(0);
        };
        let known = self.others.iter().position(|known| *known == rate);
        let at = known.unwrap_or_else(|| {
            self.others.push(rate);
            self.others.len() - 1
        });
        self.of.push(at + 1);
    }

    /// All learning rates, made of theirs by a schedule.
    pub(super) fn rates(&self, base: f64, scheduled: impl Fn(f64) -> f64) -> Vec<f64> {
        let bases = std::iter::once(base).chain(self.others.iter().copied());
        bases.map(scheduled).collect()
    }

    /// The position of a parameter's learning rate among [`rates`](Self::rates).
    pub(super) fn of(&self, parameter: usize) -> usize {
        self.of.get(parameter).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rates_are_one_and_what_is_frozen_has_none() {
        let rule = |frozen, learning_rate| ParameterRule {
            pattern: "*".to_owned(),
            frozen,
            learning_rate,
        };
        let (frozen, slow, fast) = (
            rule(true, None),
            rule(false, Some(0.1)),
            rule(false, Some(3.0)),
        );
        let usual = rule(false, None);
        let rules = [
            Some(&frozen),
            Some(&slow),
            None,
            Some(&fast),
            Some(&slow),
            Some(&usual),
        ];
        let groups = Groups::new(&rules);
        assert_eq!(groups.rates(1.0, |rate| rate / 2.0), [0.5, 0.05, 1.5]);
        let of: Vec<usize> = (0..5).map(|at| groups.of(at)).collect();
        assert_eq!(of, [1, 0, 2, 1, 0]);
    }
}
