//! Conditions: which hyperparameter is active with which values of another one.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Domain, Parameter, domain, same_value};
use crate::spec::error::{Problems, SpecError, near};
use crate::spec::{ParameterSpec, Space};

/// Values of a condition that are compared one by one; more are looked up, as there may be very many.
const FEW: usize = 8;

/// Holds while the parent is active and has one of the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Position of the parent in [`super::SearchSpace::parameters`].
    pub parent: usize,
    pub values: Vec<Value>,
    /// Texts of the values in ascending order, where there are more than [`FEW`].
    texts: Vec<String>,
}

impl Condition {
    fn new(parent: usize, values: Vec<Value>) -> Self {
        let mut texts = Vec::new();
        if values.len() > FEW {
            texts.extend(values.iter().map(domain::canonical));
            texts.sort_unstable();
        }
        Self {
            parent,
            values,
            texts,
        }
    }

    /// Whether the parent has one of the values.
    pub(super) fn holds(&self, value: &Value) -> bool {
        if self.texts.is_empty() {
            return self.values.iter().any(|wanted| same_value(wanted, value));
        }
        self.texts.binary_search(&domain::canonical(value)).is_ok()
    }
}

/// Conditions of one hyperparameter; what is wrong goes to `errors`.
pub(super) fn conditions(
    name: &str,
    spec: &ParameterSpec,
    (space, unread): (&Space, &[&str]),
    domains: &[Option<Domain>],
    words: &mut HashMap<usize, Option<HashSet<String>>>,
    errors: &mut Problems,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for (parent, wanted) in &spec.when {
        let path = format!("hyperparameters.{name}.when.{parent}");
        let names = || space.0.iter().map(|(name, _)| name.as_str());
        let Some(position) = names().position(|known| known == parent) else {
            if !unread.contains(&parent.as_str()) {
                errors.add(&path, || {
                    let hint = near(parent, names())
                        .map(|word| format!("; did you mean `{word}`?"))
                        .unwrap_or_default();
                    format!("there is no hyperparameter `{parent}`{hint}")
                });
            }
            continue;
        };
        let Some(domain) = &domains[position] else {
            continue;
        };
        if matches!(domain, Domain::Double { .. }) {
            errors.push(SpecError::new(
                path,
                format!("`{parent}` is a double; accepted as parents are hyperparameters of every other type"),
            ));
            continue;
        }
        let values = match wanted {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        if values.is_empty() {
            errors.push(SpecError::new(&path, "an empty list is never met"));
        }
        let words = words.entry(position).or_insert_with(|| domain.words());
        for value in &values {
            // Looking through a long list for each value of a long list is left to the first problems.
            let found = match words {
                Some(words) if words.contains(&domain::canonical(value)) => true,
                Some(_) if errors.is_full() => false,
                _ => domain.contains(value),
            };
            if !found {
                errors.add(&path, || {
                    format!("`{parent}` is never {value}; accepted are values of {domain}")
                });
            }
        }
        conditions.push(Condition::new(position, values));
    }
    conditions
}

/// Parents before children, otherwise in the order of the spec.
pub(super) fn parents_first(parameters: &[Parameter]) -> Result<Vec<usize>, SpecError> {
    let mut placed = vec![false; parameters.len()];
    let mut order = Vec::with_capacity(parameters.len());
    // All before it are placed.
    let mut first = 0;
    while order.len() < parameters.len() {
        first += placed[first..].iter().take_while(|placed| **placed).count();
        let next = (first..parameters.len()).find(|&position| {
            !placed[position]
                && parameters[position]
                    .conditions
                    .iter()
                    .all(|condition| placed[condition.parent])
        });
        let Some(position) = next else {
            let stuck: Vec<&str> = (0..parameters.len())
                .filter(|&position| !placed[position])
                .map(|position| parameters[position].name.as_str())
                .collect();
            return Err(SpecError::new(
                format!("hyperparameters.{}.when", stuck[0]),
                format!(
                    "conditions go in a circle among `{}`; a hyperparameter may not depend on itself",
                    stuck.join("`, `")
                ),
            ));
        };
        placed[position] = true;
        order.push(position);
    }
    Ok(order)
}
