//! What an expression comes to for one configuration. Cannot fail.

use serde_json::Value;

use super::{Comparison, Link, Node, literal};
use crate::space::domain::same_value;

/// What adding and multiplying some decimals errs by, as a share of the larger number.
const ROUNDING: f64 = 1e-12;

/// The value of a hyperparameter that a configuration does not have.
pub(super) static NOTHING: Value = Value::Null;

/// What a node comes to.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Value(&'a Value),
    Truth(bool),
    /// Of arithmetic; not a number where there is none, which meets no comparison of size.
    Number(f64),
}

impl Found<'_> {
    pub(super) fn number(self) -> f64 {
        match self {
            Self::Number(x) => x,
            Self::Value(value) => value.as_f64().unwrap_or(f64::NAN),
            Self::Truth(_) => f64::NAN,
        }
    }

    fn is_true(self) -> bool {
        match self {
            Self::Truth(truth) => truth,
            Self::Value(value) => *value == Value::Bool(true),
            Self::Number(_) => false,
        }
    }

    /// What arithmetic cannot give is no value, and one such is as good as another.
    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => same_value(a, b),
            (a, b) => same_value(&a.value(), &b.value()),
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Truth(truth) => Value::Bool(truth),
            Self::Number(x) => literal(x),
        }
    }
}

pub(super) fn evaluate<'a>(node: &'a Node, value: &impl Fn(usize) -> &'a Value) -> Found<'a> {
    match node {
        Node::Literal(literal) => Found::Value(literal),
        Node::Parameter(position) => Found::Value(value(*position)),
        Node::Negative(_) | Node::Arithmetic(..) | Node::Call(..) => {
            Found::Number(number(node, value))
        }
        Node::Not(_) | Node::Both(..) | Node::Either(..) | Node::Chain(..) => {
            Found::Truth(truth(node, value))
        }
    }
}

pub(super) fn truth<'a>(node: &'a Node, value: &impl Fn(usize) -> &'a Value) -> bool {
    match node {
        Node::Not(inner) => !truth(inner, value),
        Node::Both(a, b) => truth(a, value) && truth(b, value),
        Node::Either(a, b) => truth(a, value) || truth(b, value),
        Node::Chain(first, links) => {
            let mut left = evaluate(first, value);
            links.iter().all(|link| match link {
                Link::Compare(how, right) => {
                    let right = evaluate(right, value);
                    let holds = how.holds(left, right);
                    left = right;
                    holds
                }
                Link::Among { values, wanted } => {
                    let is = |known| Comparison::Equal.holds(left, Found::Value(known));
                    let found = values.iter().any(is);
                    left = Found::Truth(true);
                    found == *wanted
                }
            })
        }
        _ => evaluate(node, value).is_true(),
    }
}

impl Comparison {
    pub(super) fn holds(self, left: Found<'_>, right: Found<'_>) -> bool {
        let (a, b) = (left.number(), right.number());
        let same = || left.is_same(right) || is_near(a, b);
        match self {
            Self::Equal => same(),
            Self::Different => !same(),
            Self::Less => a < b && !is_near(a, b),
            Self::AtMost => a <= b || is_near(a, b),
            Self::Greater => a > b && !is_near(a, b),
            Self::AtLeast => a >= b || is_near(a, b),
        }
    }
}

/// Whether two numbers differ by no more than the errors of adding decimals: 0.1 + 0.2 is 0.3. Whole ones are exact.
fn is_near(a: f64, b: f64) -> bool {
    let is_whole = |x: f64| libm::trunc(x) == x;
    !(is_whole(a) && is_whole(b)) && (a - b).abs() <= ROUNDING * f64::max(a.abs(), b.abs())
}

/// A sum of which no more is left than such an error is none: 0.1 + 0.2 - 0.3.
fn settled(sum: f64, a: f64, b: f64) -> f64 {
    match sum.abs() <= ROUNDING * f64::max(a.abs(), b.abs()) {
        true => 0.0,
        false => sum,
    }
}

fn number<'a>(node: &'a Node, value: &impl Fn(usize) -> &'a Value) -> f64 {
    match node {
        Node::Negative(inner) => -number(inner, value),
        Node::Arithmetic(operator, a, b) => {
            let (a, b) = (number(a, value), number(b, value));
            match operator {
                '+' => settled(a + b, a, b),
                '-' => settled(a - b, a, b),
                '*' => a * b,
                '/' => a / b,
                '%' => a - b * libm::floor(a / b),
                _ => libm::pow(a, b),
            }
        }
        Node::Call(function, arguments) => {
            let argument = |at: usize| arguments.get(at).map_or(f64::NAN, |a| number(a, value));
            let x = argument(0);
            match *function {
                "abs" => x.abs(),
                "sqrt" => libm::sqrt(x),
                "exp" => libm::exp(x),
                "log" => libm::log(x),
                "log2" => libm::log2(x),
                "log10" => libm::log10(x),
                "floor" => libm::floor(x),
                "ceil" => libm::ceil(x),
                "round" => libm::round(x),
                "min" => f64::min(x, argument(1)),
                _ => f64::max(x, argument(1)),
            }
        }
        _ => evaluate(node, value).number(),
    }
}
