//! How far a configuration is from meeting a constraint: nothing where it does, more the farther it is.
//!
//! What an expression asks for as parts that all, or of which any, must hold, negations pushed down to them. A
//! comparison of numbers misses by the distance of its sides in units of what draws miss it by, so that those of
//! different scales weigh the same; what can only hold or not misses by 1.

use serde_json::Value;

use super::evaluate::{Found, NOTHING, evaluate, truth};
use super::{Comparison, Constraint, Link, Node};

/// What is not met misses by at least this much, however near it is.
const LEAST: f64 = 1e-12;
/// And by no more: what arithmetic cannot give is as far away as anything can be.
const MOST: f64 = 1e12;

/// Values by the position of their hyperparameter; `None` while inactive.
pub(in crate::space) type Values = [Option<Value>];

/// What a constraint asks for.
#[derive(Debug)]
pub(in crate::space) struct Demand {
    part: Part,
    names: Vec<usize>,
    /// Length of the constraint, which says what judging it takes.
    characters: u64,
}

#[derive(Debug)]
pub(super) enum Part {
    All(Vec<Self>),
    Any(Vec<Self>),
    Compare(Box<Compared>),
    Truth { node: Node, wanted: bool },
}

#[derive(Debug)]
pub(super) struct Compared {
    pub(super) how: Comparison,
    pub(super) left: Node,
    pub(super) right: Node,
    pub(super) wanted: bool,
    scale: f64,
}

impl Demand {
    pub(in crate::space) fn new(constraint: &Constraint) -> Self {
        Self {
            part: Part::new(&constraint.root, true),
            names: constraint.names.clone(),
            characters: constraint.text.len() as u64,
        }
    }

    /// Positions of the hyperparameters that it names.
    pub(in crate::space) fn names(&self) -> &[usize] {
        &self.names
    }

    pub(super) fn part(&self) -> &Part {
        &self.part
    }

    pub(in crate::space) fn characters(&self) -> u64 {
        self.characters
    }

    /// 0 where a configuration meets it or it does not apply.
    pub(in crate::space) fn miss(&self, values: &Values) -> f64 {
        match self.applies(values) {
            true => self.part.miss(&|position| value(values, position)),
            false => 0.0,
        }
    }

    /// Learns from draws what its comparisons are usually missed by.
    pub(in crate::space) fn scale(&mut self, draws: &[Vec<Option<Value>>]) {
        let draws = draws.iter().map(Vec::as_slice);
        let draws: Vec<&Values> = draws.filter(|values| self.applies(values)).collect();
        self.part.scale(&draws);
    }

    fn applies(&self, values: &Values) -> bool {
        self.names
            .iter()
            .all(|position| values[*position].is_some())
    }
}

fn value(values: &Values, position: usize) -> &Value {
    values[position].as_ref().unwrap_or(&NOTHING)
}

impl Part {
    fn new(node: &Node, wanted: bool) -> Self {
        match node {
            Node::Not(inner) => Self::new(inner, !wanted),
            Node::Both(a, b) => Self::of(vec![Self::new(a, wanted), Self::new(b, wanted)], wanted),
            Node::Either(a, b) => {
                Self::of(vec![Self::new(a, wanted), Self::new(b, wanted)], !wanted)
            }
            Node::Chain(first, links) => {
                let mut left: &Node = first;
                let truth = Node::Literal(Value::Bool(true));
                let mut parts = Vec::with_capacity(links.len());
                for link in links {
                    parts.push(Self::link(left, link, wanted));
                    left = match link {
                        Link::Compare(_, right) => right,
                        Link::Among { .. } => &truth,
                    };
                }
                Self::of(parts, wanted)
            }
            _ => Self::Truth {
                node: node.clone(),
                wanted,
            },
        }
    }

    fn of(parts: Vec<Self>, all: bool) -> Self {
        match all {
            true => Self::All(parts),
            false => Self::Any(parts),
        }
    }

    fn link(left: &Node, link: &Link, wanted: bool) -> Self {
        let compared = |how, right: &Node, wanted| {
            Self::Compare(Box::new(Compared {
                how,
                left: left.clone(),
                right: right.clone(),
                wanted,
                scale: 1.0,
            }))
        };
        match link {
            Link::Compare(how, right) => compared(*how, right, wanted),
            Link::Among { values, wanted: is } => {
                let among = *is == wanted;
                let value = |value: &Value| {
                    compared(Comparison::Equal, &Node::Literal(value.clone()), among)
                };
                Self::of(values.iter().map(value).collect(), !among)
            }
        }
    }

    fn miss<'a>(&'a self, value: &impl Fn(usize) -> &'a Value) -> f64 {
        match self {
            Self::All(parts) => parts.iter().map(|part| part.miss(value)).sum(),
            Self::Any(parts) => {
                let misses = parts.iter().map(|part| part.miss(value));
                misses.fold(f64::INFINITY, f64::min)
            }
            Self::Compare(compared) => match compared.gap(value) {
                0.0 => 0.0,
                gap => (gap / compared.scale).clamp(LEAST, MOST),
            },
            Self::Truth { node, wanted } => match truth(node, value) == *wanted {
                true => 0.0,
                false => 1.0,
            },
        }
    }

    fn scale(&mut self, draws: &[&Values]) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().for_each(|part| part.scale(draws));
            }
            Self::Compare(compared) => {
                let gaps = draws
                    .iter()
                    .map(|values| compared.gap(&|position| value(values, position)));
                let (sum, count) = gaps
                    .filter(|gap| *gap > 0.0 && *gap < MOST)
                    .fold((0.0, 0.0), |(sum, count), gap| (sum + gap, count + 1.0));
                if count > 0.0 {
                    compared.scale = sum / count;
                }
            }
            Self::Truth { .. } => {}
        }
    }
}

impl Compared {
    pub(super) fn meets<'a>(&'a self, value: &impl Fn(usize) -> &'a Value) -> bool {
        self.how
            .holds(evaluate(&self.left, value), evaluate(&self.right, value))
            == self.wanted
    }

    /// 0 where it holds as wanted, else how far apart its sides are.
    fn gap<'a>(&'a self, value: &impl Fn(usize) -> &'a Value) -> f64 {
        let (left, right) = (evaluate(&self.left, value), evaluate(&self.right, value));
        if self.how.holds(left, right) == self.wanted {
            return 0.0;
        }
        match (left.number() - right.number()).abs() {
            gap if gap > 0.0 => gap.clamp(f64::MIN_POSITIVE, MOST),
            // Equal sides that are to differ; no numbers at all.
            gap if gap.is_nan() && is_number(left) != is_number(right) => MOST,
            _ => 1.0,
        }
    }
}

fn is_number(found: Found<'_>) -> bool {
    !found.number().is_nan()
}

impl Constraint {
    /// Whether it asks, whatever else it asks, for an equality that changes with a continuous hyperparameter: no draw
    /// meets it but by chance.
    pub(in crate::space) fn equates(&self, continuous: &impl Fn(usize) -> bool) -> bool {
        equates(&self.root, true, continuous)
    }
}

fn equates(node: &Node, wanted: bool, continuous: &impl Fn(usize) -> bool) -> bool {
    let exactly = match wanted {
        true => Comparison::Equal,
        false => Comparison::Different,
    };
    match (node, wanted) {
        (Node::Not(inner), _) => equates(inner, !wanted, continuous),
        (Node::Both(a, b), true) | (Node::Either(a, b), false) => {
            equates(a, wanted, continuous) || equates(b, wanted, continuous)
        }
        // A chain that is not to hold is broken by any of its links.
        (Node::Chain(first, links), _) if wanted || links.len() == 1 => {
            let mut left: &Node = first;
            links.iter().any(|link| {
                let Link::Compare(how, right) = link else {
                    let among = matches!(link, Link::Among { wanted: is, .. } if *is == wanted);
                    return among && varies(left, continuous);
                };
                let side = std::mem::replace(&mut left, right);
                *how == exactly && (varies(side, continuous) || varies(right, continuous))
            })
        }
        _ => false,
    }
}

/// Whether a number changes with every change of a continuous hyperparameter in it: rounding and choosing do not.
fn varies(node: &Node, continuous: &impl Fn(usize) -> bool) -> bool {
    match node {
        Node::Parameter(position) => continuous(*position),
        Node::Negative(inner) => varies(inner, continuous),
        Node::Arithmetic(_, a, b) => varies(a, continuous) || varies(b, continuous),
        Node::Call(function, arguments) => {
            matches!(*function, "abs" | "sqrt" | "exp" | "log" | "log2" | "log10")
                && arguments.iter().any(|a| varies(a, continuous))
        }
        _ => false,
    }
}
