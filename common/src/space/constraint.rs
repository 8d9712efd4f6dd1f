//! Hard constraints: expressions over hyperparameters that every configuration must meet.
//!
//! `units_1 >= units_2`, `layers * width <= 4096 and optimizer != 'sgd'`, `batch in [32, 64]`. Types are
//! checked once, against the domains; evaluation cannot fail. A constraint that names an inactive
//! hyperparameter does not apply to that configuration. Powers and logarithms are `libm`'s, so that a
//! configuration meets a constraint on every machine or on none.

mod evaluate;
mod interval;
mod miss;
mod narrow;
mod parse;
mod tokens;

use serde_json::Value;

pub(super) use miss::Demand;
pub(super) use narrow::{Bounds, Narrowing};

use super::domain::Domain;
use crate::spec::Params;

/// Longest expression, in bytes: what a person writes is far below.
const MAX_LENGTH: usize = 1_000;

/// One constraint, parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    text: String,
    root: Node,
    /// Positions of the hyperparameters that it names.
    names: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Literal(Value),
    Parameter(usize),
    Not(Box<Node>),
    Negative(Box<Node>),
    Both(Box<Node>, Box<Node>),
    Either(Box<Node>, Box<Node>),
    /// `1 < a <= b`: each operand stands once, however many comparisons it is part of.
    Chain(Box<Node>, Vec<Link>),
    Arithmetic(char, Box<Node>, Box<Node>),
    Call(&'static str, Vec<Node>),
}

/// What a chain asks of the operand before it.
#[derive(Debug, Clone, PartialEq)]
enum Link {
    Compare(Comparison, Node),
    /// Whether it is one of these, or none of them; what follows compares with true.
    Among {
        values: Vec<Value>,
        wanted: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    Different,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Number,
    Truth,
    Text,
    /// A categorical hyperparameter whose values are of several types.
    Mixed,
}

impl Type {
    fn of(value: &Value) -> Self {
        match value {
            Value::Number(_) => Self::Number,
            Value::Bool(_) => Self::Truth,
            Value::String(_) => Self::Text,
            _ => Self::Mixed,
        }
    }

    fn of_domain(domain: &Domain) -> Self {
        match domain {
            Domain::Double { .. } | Domain::Int { .. } => Self::Number,
            Domain::Const(value) => Self::of(value),
            Domain::Categorical(values) | Domain::Ordinal(values) => {
                let mut types = values.iter().map(Self::of);
                let first = types.next().unwrap_or(Self::Mixed);
                if types.all(|other| other == first) {
                    first
                } else {
                    Self::Mixed
                }
            }
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::Text => "text",
            Self::Mixed => "of several types",
        }
    }
}

impl Constraint {
    /// Parses an expression over these hyperparameters.
    ///
    /// # Errors
    /// What is wrong and what is accepted, in words.
    pub(super) fn new(text: &str, parameters: &[(&str, &Domain)]) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!(
                "{} characters; accepted are at most {MAX_LENGTH}",
                text.len()
            ));
        }
        let (root, kind, names) = parse::parse(text, parameters)?;
        if kind != Type::Truth {
            return Err(format!(
                "the whole is {}; accepted is what is true or false, such as `a <= b`",
                kind.word()
            ));
        }
        if names.is_empty() {
            return Err("names no hyperparameter".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            root,
            names,
        })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Positions of the hyperparameters that it names.
    pub(super) fn names(&self) -> &[usize] {
        &self.names
    }

    /// Whether a configuration meets it. `name` gives a hyperparameter's name by its position.
    pub(super) fn holds<'a>(&self, params: &Params, name: impl Fn(usize) -> &'a str) -> bool {
        self.holds_with(|position| params.get(name(position)))
    }

    /// Whether a configuration meets it. `value` gives a hyperparameter's value by its position, where it is active.
    pub(super) fn holds_with<'a>(&self, value: impl Fn(usize) -> Option<&'a Value>) -> bool {
        if self.names.iter().any(|&position| value(position).is_none()) {
            return true;
        }
        evaluate::truth(&self.root, &|position| {
            value(position).unwrap_or(&evaluate::NOTHING)
        })
    }
}

/// A number as a value; none where it is not finite.
fn literal(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or(Value::Null, Value::Number)
}
