//! The search space: hyperparameters as domains that were checked, configurations drawn from them,
//! counted and enumerated.
//!
//! Pure. A configuration holds its active hyperparameters in the order of the spec. Transcendental
//! functions are `libm`'s, so that a draw is the same on every machine.

mod conditions;
mod constraint;
mod domain;
mod effort;
mod facts;
mod feasible;
mod grid;
mod listing;
mod plan;
mod refused;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

pub use conditions::Condition;
use conditions::{conditions, parents_first};
pub use constraint::Constraint;
pub use domain::{Domain, Positions, same_value};
use facts::Facts;
pub use facts::KnownSpace;
pub use grid::Grid;
pub use listing::{Listing, MAX_LISTED};
use plan::Plan;

use crate::rng::Key;
use crate::spec::error::{Problems, SpecError, SpecErrors, quoted};
use crate::spec::{JobSpec, Params, Space};

/// Longest name of a hyperparameter, in characters.
const MAX_NAME: usize = 63;

/// Most constraints of one job.
const MAX_CONSTRAINTS: usize = 100;

/// Most hyperparameters of one job. A trial's record holds a value of each (100 KiB for so many), and densities of `tpe`
/// take 10 KiB for each. Searchers whose work grows with its square have bounds of their own.
const MAX_PARAMETERS: usize = 5_000;

/// A hyperparameter and when it is active.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    pub name: String,
    pub domain: Domain,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// Hyperparameters whose domains and conditions were checked.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    parameters: Vec<Parameter>,
    /// Positions of parameters, parents before children, otherwise in the order of the spec.
    order: Vec<usize>,
    constraints: Vec<Constraint>,
    /// How all configurations are gone through.
    plan: Arc<Plan>,
    /// Copies of a space share what was found out.
    facts: Known,
}

#[derive(Debug, Clone, Default)]
struct Known(Arc<Facts>);

/// It follows from the rest of a space.
impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::ops::Deref for Known {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl SearchSpace {
    /// Checks every hyperparameter.
    ///
    /// # Errors
    /// All that is wrong, with paths such as `hyperparameters.lr.maxval`.
    pub fn new(space: &Space) -> Result<Self, Vec<SpecError>> {
        let mut errors = Problems::default();
        let read = Self::read(space, &[], &[], &mut errors);
        read.ok_or_else(|| SpecErrors::from(errors).0)
    }

    /// The space of hyperparameters and constraints; what is wrong goes to `errors`. `unread`: names of those of which
    /// nothing is known but that something is wrong with them.
    pub(crate) fn read(
        space: &Space,
        unread: &[&str],
        constraints: &[String],
        errors: &mut Problems,
    ) -> Option<Self> {
        if space.0.len() > MAX_PARAMETERS {
            errors.push(SpecError::new(
                "hyperparameters",
                format!(
                    "{} hyperparameters; accepted are at most {MAX_PARAMETERS}",
                    space.0.len()
                ),
            ));
            return None;
        }
        let before = errors.count();
        let domains: Vec<Option<Domain>> = space
            .0
            .iter()
            .map(|(name, spec)| {
                check_name(name, errors);
                Domain::new(&format!("hyperparameters.{name}"), spec, errors)
            })
            .collect();
        let mut words = HashMap::new();
        let mut parameters = Vec::with_capacity(domains.len());
        for ((name, spec), domain) in space.0.iter().zip(&domains) {
            let conditions = conditions(name, spec, (space, unread), &domains, &mut words, errors);
            if let Some(domain) = domain {
                parameters.push(Parameter {
                    name: name.clone(),
                    domain: domain.clone(),
                    conditions,
                });
            }
        }
        if errors.count() > before || !unread.is_empty() {
            let unsound = space
                .0
                .iter()
                .zip(&domains)
                .filter(|(_, domain)| domain.is_none());
            let unsound = unsound.map(|((name, _), _)| name.as_str());
            let unsound: Vec<&str> = unsound.chain(unread.iter().copied()).collect();
            refuse_constraints(&parameters, &unsound, constraints, errors);
            return None;
        }
        let order = parents_first(&parameters)
            .map_err(|cycle| errors.push(cycle))
            .ok()?;
        let space = Self {
            plan: Arc::new(Plan::new(&parameters, &order, &[])),
            parameters,
            order,
            constraints: Vec::new(),
            facts: Known::default(),
        };
        match space.constrained(constraints) {
            Ok(space) => Some(space),
            Err(found) => {
                errors.extend(found);
                None
            }
        }
    }

    /// The space of a job, with its constraints.
    ///
    /// # Errors
    /// As [`Self::new`] and [`Self::constrained`].
    pub fn of(job: &JobSpec) -> Result<Self, Vec<SpecError>> {
        Self::new(&job.hyperparameters).and_then(|space| space.constrained(&job.constraints))
    }

    /// The same space with constraints.
    ///
    /// # Errors
    /// All that is wrong with them, with paths such as `constraints[0]`.
    pub fn constrained(mut self, constraints: &[String]) -> Result<Self, Vec<SpecError>> {
        if constraints.len() > MAX_CONSTRAINTS {
            let given = constraints.len();
            let message = format!("{given} given; accepted are at most {MAX_CONSTRAINTS}");
            return Err(vec![SpecError::new("constraints", message)]);
        }
        let known = known(&self.parameters);
        let mut errors = Vec::new();
        let mut parsed = Vec::new();
        for (index, text) in constraints.iter().enumerate() {
            match Constraint::new(text, &known) {
                Ok(constraint) => parsed.push(constraint),
                Err(reason) => errors.push(SpecError::new(
                    format!("constraints[{index}]"),
                    format!("`{}`: {reason}", quoted(text)),
                )),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.plan = Arc::new(Plan::new(&self.parameters, &self.order, &parsed));
        self.constraints = parsed;
        self.facts = Known::default();
        Ok(self)
    }

    pub fn is_constrained(&self) -> bool {
        !self.constraints.is_empty()
    }

    /// Whether a configuration of the space meets every constraint.
    pub fn allows(&self, params: &Params) -> bool {
        self.broken(params).is_none()
    }

    /// The first constraint that a configuration does not meet.
    fn broken(&self, params: &Params) -> Option<&Constraint> {
        let name = |position: usize| self.parameters[position].name.as_str();
        let mut constraints = self.constraints.iter();
        constraints.find(|constraint| !constraint.holds(params, name))
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Positions of the hyperparameters, parents before children.
    pub fn parents_first(&self) -> &[usize] {
        &self.order
    }

    /// Draws a configuration. Each hyperparameter has its own key, so that adding one does not change
    /// what the others draw.
    pub fn sample(&self, key: Key) -> Params {
        self.build(|_, parameter| parameter.domain.sample(key.named(&parameter.name)))
    }

    /// The configuration at a point of the unit cube, which has one axis for each hyperparameter in the
    /// order of the spec. `share` gives the place on an axis, in [0, 1).
    pub fn at(&self, share: impl Fn(usize) -> f64) -> Params {
        self.build(|position, parameter| parameter.domain.at(share(position)))
    }

    /// A configuration that a person began: what it leaves out is at the middle of its range, or the first
    /// choice.
    ///
    /// # Errors
    /// As [`Self::contains`].
    pub fn completed(&self, given: &Params) -> Result<Params, SpecError> {
        let mut params = self.build(|_, parameter| match given.get(&parameter.name) {
            Some(value) => value.clone(),
            None => parameter.domain.middle(),
        });
        for (name, value) in given {
            params.entry(name).or_insert_with(|| value.clone());
        }
        self.contains(&params).map(|()| params)
    }

    /// The configuration of first values: the smallest number, the first choice.
    pub fn first(&self) -> Params {
        self.build(|_, parameter| parameter.domain.first())
    }

    /// Configurations in which each hyperparameter takes each of its corners (ends of a range, every
    /// choice) at least once while the others are at their first value, and one of all last values.
    /// At most `limit`; no two are equal.
    pub fn corners(&self, limit: usize) -> Vec<Params> {
        let mut found = vec![self.first()];
        let last = self.build(|_, parameter| parameter.domain.last());
        let singles = (0..self.parameters.len()).flat_map(|position| {
            self.parameters[position]
                .domain
                .corners()
                .into_iter()
                .filter_map(move |value| self.holding(position, value))
        });
        for params in std::iter::once(last).chain(singles) {
            if found.len() >= limit {
                break;
            }
            if !found.contains(&params) {
                found.push(params);
            }
        }
        found
    }

    /// Whether a configuration is one of this space: exactly the active hyperparameters, each with a
    /// value of its domain.
    ///
    /// # Errors
    /// Names the hyperparameter, what was given and what is accepted.
    pub fn contains(&self, params: &Params) -> Result<(), SpecError> {
        let path = |name: &str| format!("hyperparameters.{name}");
        let given = |parameter: &&Parameter| params.contains_key(&parameter.name);
        if self.parameters.iter().filter(given).count() < params.len() {
            let is_known = |name: &String| self.parameters.iter().any(|known| known.name == *name);
            let mut names = params.keys();
            let name = names.find(|name| !is_known(name));
            return Err(SpecError::new(
                path(name.map_or("", String::as_str)),
                "there is no such hyperparameter",
            ));
        }
        for position in 0..self.parameters.len() {
            let parameter = &self.parameters[position];
            let name = &parameter.name;
            match (params.get(name), self.is_active(position, params)) {
                (Some(value), true) if !parameter.domain.contains(value) => {
                    return Err(SpecError::new(
                        path(name),
                        format!("{value} is outside {}", parameter.domain),
                    ));
                }
                (Some(value), false) => {
                    return Err(SpecError::new(
                        path(name),
                        format!("inactive in this configuration, but {value} was given"),
                    ));
                }
                (None, true) => {
                    return Err(SpecError::new(path(name), "active, but no value was given"));
                }
                _ => {}
            }
        }
        match self.broken(params) {
            Some(constraint) => Err(SpecError::new(
                "constraints",
                format!("`{}` is not met", constraint.text()),
            )),
            None => Ok(()),
        }
    }

    /// All configurations of a grid, in the order of the spec, the last hyperparameter fastest.
    ///
    /// # Errors
    /// Names each `double` without `step` or `count`.
    pub fn grid(&self) -> Result<Grid, Vec<SpecError>> {
        let errors: Vec<SpecError> = self
            .parameters
            .iter()
            .filter(|parameter| parameter.domain.grid_len().is_none())
            .map(|parameter| {
                SpecError::new(
                    format!("hyperparameters.{}", parameter.name),
                    "a grid needs `count` (or `step`) for a double",
                )
            })
            .collect();
        if errors.is_empty() {
            Ok(Grid::new(self.clone()))
        } else {
            Err(errors)
        }
    }

    /// Whether a configuration of the space is one of its grid.
    pub fn in_grid(&self, params: &Params) -> bool {
        // All values but those of a continuous range are points of the grid.
        let on_grid = |parameter: &Parameter, value: &Value| {
            let domain = &parameter.domain;
            domain.cardinality().is_some() || domain.position(value).is_some()
        };
        self.parameters.iter().all(|parameter| {
            let value = params.get(&parameter.name);
            value.is_none_or(|value| on_grid(parameter, value))
        })
    }

    /// A text that is equal for equal configurations of this space and for no others: 1 and 1.0 are
    /// the same number.
    pub fn fingerprint(&self, params: &Params) -> String {
        let mut text = String::new();
        for parameter in &self.parameters {
            if let Some(value) = params.get(&parameter.name) {
                text.push_str(&domain::canonical(value));
            }
            text.push('\u{1f}');
        }
        text
    }

    /// The configuration of a [`fingerprint`](Self::fingerprint).
    pub fn of_fingerprint(&self, text: &str) -> Option<Params> {
        let parts = self.parameters.iter().zip(text.split('\u{1f}'));
        let active = parts.filter(|(_, value)| !value.is_empty());
        active
            .map(|(parameter, value)| {
                let value = serde_json::from_str(value).ok()?;
                Some((parameter.name.clone(), value))
            })
            .collect()
    }

    /// Whether a hyperparameter is active, given the values of its ancestors.
    pub fn is_active(&self, position: usize, params: &Params) -> bool {
        self.parameters[position]
            .conditions
            .iter()
            .all(|condition| {
                let parent = params.get(&self.parameters[condition.parent].name);
                parent.is_some_and(|value| condition.holds(value))
            })
    }

    /// A configuration of what `choose` gives to active hyperparameters.
    fn build(&self, choose: impl Fn(usize, &Parameter) -> Value) -> Params {
        let mut params = Params::new();
        for &position in &self.order {
            if self.is_active(position, &params) {
                let parameter = &self.parameters[position];
                params.insert(parameter.name.clone(), choose(position, parameter));
            }
        }
        self.in_spec_order(params)
    }

    fn in_spec_order(&self, mut params: Params) -> Params {
        self.parameters
            .iter()
            .filter_map(|parameter| params.remove_entry(&parameter.name))
            .collect()
    }

    /// A configuration in which one hyperparameter is active with a value, its ancestors at the first
    /// value that allows it; `None` where conditions contradict each other.
    fn holding(&self, position: usize, value: Value) -> Option<Params> {
        let mut forced: Vec<Option<Value>> = vec![None; self.parameters.len()];
        forced[position] = Some(value);
        let mut open = vec![position];
        while let Some(child) = open.pop() {
            for condition in &self.parameters[child].conditions {
                if forced[condition.parent].is_none() {
                    forced[condition.parent] = condition.values.first().cloned();
                    open.push(condition.parent);
                }
            }
        }
        let params = self.build(|position, parameter| {
            let forced = forced[position].clone();
            forced.unwrap_or_else(|| parameter.domain.first())
        });
        params
            .contains_key(&self.parameters[position].name)
            .then_some(params)
    }
}

fn check_name(name: &str, errors: &mut Problems) {
    // Dots, since configurations of programs are often nested: `model.lr`.
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.len() > MAX_NAME || !name.starts_with(begins) || !name.chars().all(fits) {
        errors.push(SpecError::new(
            format!("hyperparameters.{name}"),
            format!(
                "the name `{name}` does not fit; accepted are letters, digits, `_`, `-` and `.`, beginning with a letter or `_`, at most {MAX_NAME}"
            ),
        ));
    }
}

fn known(parameters: &[Parameter]) -> Vec<(&str, &Domain)> {
    let known = parameters.iter();
    known
        .map(|parameter| (parameter.name.as_str(), &parameter.domain))
        .collect()
}

/// What is wrong with constraints of hyperparameters with which nothing is; of unsound ones nothing can be said.
fn refuse_constraints(
    parameters: &[Parameter],
    unsound: &[&str],
    constraints: &[String],
    errors: &mut Problems,
) {
    let known = known(parameters);
    let names_unsound = |text: &str| {
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| unsound.contains(&word))
    };
    let constraints = constraints.iter().enumerate().take(MAX_CONSTRAINTS);
    for (index, text) in constraints.filter(|(_, text)| !names_unsound(text)) {
        if let Err(reason) = Constraint::new(text, &known) {
            errors.add(&format!("constraints[{index}]"), || {
                format!("`{}`: {reason}", quoted(text))
            });
        }
    }
}

#[cfg(test)]
mod tests;
