//! What a constraint leaves of a box of the unit cube: boxes that hold all that meets it, by intervals that are carried
//! through its expressions and back (Benhamou, Goualard, Granvilliers and Puget, Revising hull and box consistency, 1999).
//!
//! Boxes may hold more than what meets it, never less: where arithmetic can fail, or a bound cannot be carried back,
//! nothing is taken away.

use serde_json::Value;

use super::interval::Interval;
use super::miss::{Compared, Demand, Part};
use super::{Comparison, Node};
use crate::space::{Domain, Parameter};

/// Boxes of which an alternative is made up, at most; more are covered by one.
const MAX_SPLIT: usize = 32;

/// A part of the unit cube, by hyperparameter.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::space) struct Bounds(pub(in crate::space) Vec<(f64, f64)>);

impl Bounds {
    /// All of it.
    pub(in crate::space) fn everything(axes: usize) -> Self {
        Self(vec![(0.0, 1.0); axes])
    }

    /// The smallest box around both.
    pub(in crate::space) fn hull(&self, other: &Self) -> Self {
        let both = self.0.iter().zip(&other.0);
        Self(
            both.map(|(a, b)| (f64::min(a.0, b.0), f64::max(a.1, b.1)))
                .collect(),
        )
    }

    /// Takes away what is outside of this part of an axis. False: nothing is left.
    fn keep(&mut self, axis: usize, (low, high): (f64, f64)) -> bool {
        let (least, most) = &mut self.0[axis];
        *least = f64::max(*least, low);
        *most = f64::min(*most, high);
        *least < *most
    }

    /// The parts that are left where an axis has one of its values, or none of them; all of it where its values are
    /// too many to tell.
    pub(in crate::space) fn among(
        &self,
        axis: usize,
        domain: &Domain,
        is: impl Fn(&Value) -> bool,
    ) -> Vec<Self> {
        let Some(cells) = domain.cells() else {
            return vec![self.clone()];
        };
        let mut runs: Vec<(f64, f64)> = Vec::new();
        for (value, (low, high)) in cells {
            match runs.last_mut() {
                _ if !is(&value) => {}
                Some(last) if last.1 >= low => last.1 = high,
                _ => runs.push((low, high)),
            }
        }
        let kept = runs.into_iter().filter_map(|run| {
            let mut kept = self.clone();
            kept.keep(axis, run).then_some(kept)
        });
        kept.collect()
    }
}

/// Boxes narrowed by one space's constraints.
pub(in crate::space) struct Narrowing<'a> {
    pub(in crate::space) parameters: &'a [Parameter],
    /// Nodes that may still be looked at; once there are none, boxes stay as they are.
    pub(in crate::space) left: u64,
}

impl Narrowing<'_> {
    /// Boxes that hold all of this one that meets a constraint, all that it names being active.
    pub(in crate::space) fn split(&mut self, demand: &Demand, bounds: &Bounds) -> Vec<Bounds> {
        self.part(demand.part(), bounds)
    }

    fn part(&mut self, part: &Part, bounds: &Bounds) -> Vec<Bounds> {
        match part {
            Part::All(parts) => {
                let mut kept = vec![bounds.clone()];
                for part in parts {
                    let narrowed = kept.iter().flat_map(|bounds| self.part(part, bounds));
                    kept = few(narrowed.collect());
                }
                kept
            }
            Part::Any(parts) => few(parts
                .iter()
                .flat_map(|part| self.part(part, bounds))
                .collect()),
            Part::Compare(compared) => self.compared(compared, bounds),
            Part::Truth {
                node: Node::Parameter(axis),
                wanted,
            } => {
                let is = |value: &Value| (*value == Value::Bool(true)) == *wanted;
                bounds.among(*axis, &self.parameters[*axis].domain, is)
            }
            Part::Truth { .. } => vec![bounds.clone()],
        }
    }

    fn compared(&mut self, compared: &Compared, bounds: &Bounds) -> Vec<Bounds> {
        let Some(how) = compared.asked() else {
            return vec![bounds.clone()];
        };
        if let Some(axis) = compared.chooses(self.parameters) {
            let domain = &self.parameters[axis].domain;
            return bounds.among(axis, domain, |value| compared.holds_for(value));
        }
        let mut kept = bounds.clone();
        match self.narrow(compared, how, &mut kept) {
            true => vec![kept],
            false => Vec::new(),
        }
    }

    /// False: nothing is left.
    fn narrow(&mut self, compared: &Compared, how: Comparison, bounds: &mut Bounds) -> bool {
        let (left, right) = (&compared.left, &compared.right);
        let (a, b) = (self.forward(left, bounds), self.forward(right, bounds));
        let slack = Interval::slack(a, b);
        let (low, high) = (
            Interval::new(f64::NEG_INFINITY, b.high + slack),
            Interval::new(b.low - slack, f64::INFINITY),
        );
        let (for_left, for_right) = match how {
            Comparison::Equal => (b.wider(slack), a.wider(slack)),
            Comparison::Less | Comparison::AtMost => {
                (low, Interval::new(a.low - slack, f64::INFINITY))
            }
            Comparison::Greater | Comparison::AtLeast => {
                (high, Interval::new(f64::NEG_INFINITY, a.high + slack))
            }
            Comparison::Different => return true,
        };
        self.backward(left, for_left, bounds) && self.backward(right, for_right, bounds)
    }

    /// All that a node may come to.
    fn forward(&mut self, node: &Node, bounds: &Bounds) -> Interval {
        if self.left == 0 {
            return Interval::EVERYTHING;
        }
        self.left -= 1;
        match node {
            Node::Literal(value) => value
                .as_f64()
                .map_or(Interval::EVERYTHING, |x| Interval::new(x, x)),
            Node::Parameter(axis) => {
                let (low, high) = self.parameters[*axis].domain.values_in(bounds.0[*axis]);
                Interval::new(low, high)
            }
            Node::Negative(inner) => self.forward(inner, bounds).negative(),
            Node::Arithmetic(operator, a, b) => {
                let (a, b) = (self.forward(a, bounds), self.forward(b, bounds));
                a.with(*operator, b)
            }
            Node::Call(function @ ("min" | "max"), arguments) => {
                let either: Vec<Interval> = arguments
                    .iter()
                    .map(|node| self.forward(node, bounds))
                    .collect();
                match arguments.iter().any(may_fail) {
                    true => Interval::EVERYTHING,
                    false => Interval::of_two(function, &either),
                }
            }
            Node::Call(function, arguments) => match arguments.first() {
                Some(argument) => self.forward(argument, bounds).called(function),
                None => Interval::EVERYTHING,
            },
            _ => Interval::EVERYTHING,
        }
    }

    /// Takes away of a box what cannot make a node come to this. False: nothing is left.
    fn backward(&mut self, node: &Node, wanted: Interval, bounds: &mut Bounds) -> bool {
        if self.left == 0 || wanted.is_everything() {
            return true;
        }
        match node {
            Node::Literal(value) => value
                .as_f64()
                .is_none_or(|x| wanted.low <= x && x <= wanted.high),
            Node::Parameter(axis) => match self.parameters[*axis]
                .domain
                .shares_of((wanted.low, wanted.high))
            {
                Some(part) => bounds.keep(*axis, part),
                None => false,
            },
            Node::Negative(inner) => self.backward(inner, wanted.negative(), bounds),
            Node::Arithmetic(operator, left, right) => {
                let (a, b) = (self.forward(left, bounds), self.forward(right, bounds));
                let (for_left, for_right) = Interval::undone(*operator, wanted, a, b);
                self.backward(left, for_left, bounds) && self.backward(right, for_right, bounds)
            }
            Node::Call(function @ ("min" | "max"), arguments) => {
                let wanted = match *function {
                    "min" => Interval::new(wanted.low, f64::INFINITY),
                    _ => Interval::new(f64::NEG_INFINITY, wanted.high),
                };
                arguments.iter().any(may_fail)
                    || arguments
                        .iter()
                        .all(|node| self.backward(node, wanted, bounds))
            }
            Node::Call(function, arguments) => match arguments.first() {
                Some(argument) => self.backward(argument, wanted.uncalled(function), bounds),
                None => true,
            },
            _ => true,
        }
    }
}

/// One box around all of them where there are too many.
fn few(boxes: Vec<Bounds>) -> Vec<Bounds> {
    if boxes.len() <= MAX_SPLIT {
        return boxes;
    }
    let hull = boxes
        .iter()
        .skip(1)
        .fold(boxes[0].clone(), |hull, other| hull.hull(other));
    vec![hull]
}

/// Whether a node can be no number: of it neither a minimum nor a comparison says anything.
fn may_fail(node: &Node) -> bool {
    match node {
        Node::Literal(value) => !value.is_number(),
        Node::Negative(inner) => may_fail(inner),
        Node::Arithmetic(operator, a, b) => {
            !matches!(operator, '+' | '-' | '*') || may_fail(a) || may_fail(b)
        }
        Node::Call(function, arguments) => {
            matches!(*function, "sqrt" | "log" | "log2" | "log10") || arguments.iter().any(may_fail)
        }
        Node::Parameter(_) => false,
        _ => true,
    }
}

impl Compared {
    /// The comparison that must hold; `None` where none follows. What is no number meets no comparison of size, and so
    /// meets every one that must not hold; two of them are equal.
    fn asked(&self) -> Option<Comparison> {
        let may_fail = may_fail(&self.left) || may_fail(&self.right);
        match (self.how, self.wanted) {
            (Comparison::Equal, true) | (Comparison::Different, false) => {
                (!may_fail).then_some(Comparison::Equal)
            }
            (Comparison::Equal, false) | (Comparison::Different, true) => {
                Some(Comparison::Different)
            }
            (how, true) => Some(how),
            (_, false) if may_fail => None,
            (Comparison::Less, false) => Some(Comparison::AtLeast),
            (Comparison::AtMost, false) => Some(Comparison::Greater),
            (Comparison::Greater, false) => Some(Comparison::AtMost),
            (Comparison::AtLeast, false) => Some(Comparison::Less),
        }
    }

    /// The hyperparameter with few values of which alone it asks something.
    fn chooses(&self, parameters: &[Parameter]) -> Option<usize> {
        let axis = match (&self.left, &self.right) {
            (Node::Parameter(axis), Node::Literal(_))
            | (Node::Literal(_), Node::Parameter(axis)) => *axis,
            _ => return None,
        };
        let is_choice = matches!(
            parameters[axis].domain,
            Domain::Categorical(_) | Domain::Ordinal(_)
        );
        is_choice.then_some(axis)
    }

    fn holds_for(&self, value: &Value) -> bool {
        self.meets(&|_| value)
    }
}
