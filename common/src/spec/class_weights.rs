//! How much the samples of each class count in training.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::findings::{Findings, is_not_negative};

/// `balanced`, a list of numbers, one for each class in order, or a mapping of classes to numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "`balanced`, a list of numbers, or a mapping of classes to numbers"
)]
pub enum ClassWeights {
    Word(ClassWeighting),
    /// Of each class, in order.
    All(Vec<f64>),
    /// Of some classes; the others have 1.
    Some(BTreeMap<String, f64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeighting {
    /// Samples of the training part / (classes in it * samples of the class), so that all classes count the same.
    Balanced,
}

impl ClassWeights {
    /// Checks the numbers, and the classes where their number is known.
    pub(super) fn check(&self, path: &str, classes: Option<usize>, found: &mut Findings) {
        let weights: Vec<(String, f64)> = match self {
            Self::Word(_) => Vec::new(),
            Self::All(all) => {
                if let Some(classes) = classes {
                    let given = format!("{} numbers", all.len());
                    let accepted = format!("{classes}, one for each class");
                    found.expect(all.len() == classes, path, given, &accepted);
                }
                let all = all.iter().enumerate();
                all.map(|(class, &weight)| (format!("{path}[{class}]"), weight))
                    .collect()
            }
            Self::Some(some) => {
                for class in some.keys() {
                    let fits = number(class).is_some_and(|n| classes.is_none_or(|most| n < most));
                    let accepted = match classes {
                        Some(classes) => format!("classes from 0 to {}", classes.saturating_sub(1)),
                        None => "classes, from 0".to_owned(),
                    };
                    let shown = crate::text::shortened(class, 40);
                    found.expect(fits, path, format!("`{shown}`"), &accepted);
                }
                let some = some.iter();
                some.map(|(class, &weight)| (format!("{path}.{class}"), weight))
                    .collect()
            }
        };
        for (path, weight) in &weights {
            let fits = is_not_negative(*weight);
            found.expect(fits, path, weight, "numbers from 0");
        }
        if !weights.is_empty() && matches!(self, Self::All(_)) {
            let some = weights.iter().any(|(_, weight)| *weight > 0.0);
            found.expect(
                some,
                path,
                "0 for each class",
                "a number above 0 for one of them",
            );
        }
    }

    /// The weight of each class. `counts`: of samples in the training part.
    ///
    /// # Errors
    /// A weight of a class that is none, or too few or many weights.
    pub fn of(&self, counts: &[usize]) -> Result<Vec<f32>, String> {
        match self {
            Self::Word(ClassWeighting::Balanced) => Ok(balanced(counts)),
            Self::All(all) if all.len() == counts.len() => {
                Ok(all.iter().map(|&weight| weight as f32).collect())
            }
            Self::All(all) => Err(format!(
                "{} numbers given; accepted: {}, one for each class",
                all.len(),
                counts.len()
            )),
            Self::Some(some) => {
                let mut weights = vec![1.0; counts.len()];
                for (class, &weight) in some {
                    let own = number(class).and_then(|class| weights.get_mut(class));
                    let last = counts.len().saturating_sub(1);
                    let own = own.ok_or_else(|| {
                        format!("`{class}` given; accepted: classes from 0 to {last}")
                    })?;
                    *own = weight as f32;
                }
                Ok(weights)
            }
        }
    }
}

/// A class without samples has 1, which nothing comes of.
fn balanced(counts: &[usize]) -> Vec<f32> {
    let samples: usize = counts.iter().sum();
    let present = counts.iter().filter(|&&count| count > 0).count();
    let weight = |count: usize| match count {
        0 => 1.0,
        count => (samples as f64 / (present as f64 * count as f64)) as f32,
    };
    counts.iter().map(|&count| weight(count)).collect()
}

fn number(class: &str) -> Option<usize> {
    let number = class.parse().ok()?;
    // `+1` and `01` would be other keys for the same class.
    (class == format!("{number}")).then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn weights(value: serde_json::Value) -> ClassWeights {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn balanced_weights_are_scikit_learns() {
        // compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 0, 0, 0, 1, 2, 2, 2])
        let given = weights(json!("balanced")).of(&[4, 1, 3]).unwrap();
        assert_eq!(given, [8.0 / 12.0, 8.0 / 3.0, 8.0 / 9.0]);
        let with_none = weights(json!("balanced")).of(&[2, 0, 6]).unwrap();
        assert_eq!(with_none, [2.0, 1.0, 8.0 / 12.0]);
    }

    #[test]
    fn classes_without_a_weight_have_1() {
        let some = weights(json!({"1": 5, "2": 0}));
        assert_eq!(some.of(&[4, 1, 3]).unwrap(), [1.0, 5.0, 0.0]);
        assert!(some.of(&[4, 1]).unwrap_err().contains("0 to 1"));
        assert_eq!(weights(json!([1, 2])).of(&[4, 1]).unwrap(), [1.0, 2.0]);
        assert!(weights(json!([1, 2])).of(&[4]).is_err());
    }

    #[test]
    fn what_is_no_weight_is_named() {
        let problems = |value: serde_json::Value, classes| {
            let mut found = Findings::default();
            weights(value).check("w", classes, &mut found);
            let problems = super::super::error::SpecErrors::from(found.0);
            problems.iter().map(|e| e.to_string()).collect::<Vec<_>>()
        };
        for (value, classes, needle) in [
            (json!([1, -1]), None, "w[1]: -1 given"),
            (json!([0, 0]), None, "0 for each class"),
            (json!([1, 2]), Some(3), "2 numbers given; accepted: 3"),
            (json!({"3": 1}), Some(3), "classes from 0 to 2"),
            (json!({"01": 1}), None, "`01` given"),
            (json!({"dog": 1}), None, "`dog` given"),
            (json!({"1": -2}), None, "w.1: -2 given"),
        ] {
            let told = problems(value, classes);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains(needle), "{told:?}");
        }
    }
}
