//! A search space as kernels see it: its axes, and which are active together.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::space::Domain;

use super::normal::Normal;
use crate::search::axes::{Axes, Kind};

/// The axes to model, in groups.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) normal: Normal,
    /// Parents' groups before children's.
    pub(crate) groups: Vec<Group>,
    pub(crate) axes: usize,
}

/// Axes that are active under the same conditions, with those of all their ancestors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) dims: Vec<Dim>,
}

impl Group {
    /// Whether the group is active at a point.
    pub(crate) fn is_active(&self, point: &[f64]) -> bool {
        let first = self.dims.first().and_then(|dim| point.get(dim.axis));
        first.is_some_and(|coordinate| !coordinate.is_nan())
    }
}

/// An axis with something to choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dim {
    pub(crate) axis: usize,
    pub(crate) values: Values,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Values {
    Continuous,
    Ordered(Cells),
    Unordered { cells: u64 },
}

impl Values {
    /// The nearest coordinate that a value has.
    pub(crate) fn settle(&self, place: f64) -> f64 {
        match self {
            Self::Continuous => place,
            Self::Ordered(cells) => cells.middle(cells.at(place)),
            Self::Unordered { cells } => {
                let cell = ((place * *cells as f64) as u64).min(cells.saturating_sub(1));
                (cell as f64 + 0.5) / *cells as f64
            }
        }
    }

    /// The number of the value at a coordinate; `None` where they are not counted.
    pub(crate) fn cell(&self, place: f64) -> Option<u64> {
        match self {
            Self::Continuous => None,
            Self::Ordered(cells) => Some(cells.at(place)),
            Self::Unordered { cells } => {
                Some(((place * *cells as f64) as u64).min(cells.saturating_sub(1)))
            }
        }
    }
}

/// Where the cells of an ordered axis lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cells {
    pub(crate) count: u64,
    /// Whole numbers over their logarithm: half below the smallest, and the logarithm of the range.
    log: Option<(f64, f64)>,
}

impl Cells {
    fn new(count: u64, domain: &Domain) -> Self {
        let log = match domain {
            Domain::Int {
                min,
                max,
                log: true,
                ..
            } => {
                let (low, high) = (*min as f64 - 0.5, *max as f64 + 0.5);
                Some((low, libm::log(high / low)))
            }
            _ => None,
        };
        Self { count, log }
    }

    /// The cell at a coordinate, from 0.
    pub(crate) fn at(&self, coordinate: f64) -> u64 {
        let last = self.count.saturating_sub(1);
        match self.log {
            None => ((coordinate * self.count as f64) as u64).min(last),
            Some((low, range)) => {
                let above = low * libm::exp(coordinate * range) - low;
                (above as u64).min(last)
            }
        }
    }

    /// The ends of a cell.
    pub(crate) fn bounds(&self, cell: u64) -> (f64, f64) {
        let edge = |number: f64| match self.log {
            None => number / self.count as f64,
            Some((low, range)) => libm::log((low + number) / low) / range,
        };
        (edge(cell as f64), edge(cell as f64 + 1.0))
    }

    /// The coordinate of a cell: that of its number.
    pub(crate) fn middle(&self, cell: u64) -> f64 {
        match self.log {
            None => (cell as f64 + 0.5) / self.count as f64,
            Some((low, range)) => libm::log((low + cell as f64 + 0.5) / low) / range,
        }
    }
}

impl Frame {
    pub(crate) fn new(axes: &Axes) -> Self {
        let order = axes.space().parents_first();
        let mut conditions: BTreeMap<usize, Conditions> = BTreeMap::new();
        let mut groups: Vec<(Conditions, Group)> = Vec::new();
        for &axis in order {
            let needed = needed(axes, axis, &conditions);
            if let Some(values) = values(axes, axis) {
                let dim = Dim { axis, values };
                match groups.iter_mut().find(|(known, _)| *known == needed) {
                    Some((_, group)) => group.dims.push(dim),
                    None => groups.push((needed.clone(), Group { dims: vec![dim] })),
                }
            }
            conditions.insert(axis, needed);
        }
        Self {
            normal: Normal::new(),
            groups: groups.into_iter().map(|(_, group)| group).collect(),
            axes: axes.axes().len(),
        }
    }
}

/// Parents, each with the coordinates of which it must have one, as bits in order.
type Conditions = BTreeSet<(usize, Vec<u64>)>;

fn needed(axes: &Axes, axis: usize, known: &BTreeMap<usize, Conditions>) -> Conditions {
    let mut all = Conditions::new();
    for needs in &axes.axes()[axis].needs {
        let mut any_of: Vec<u64> = needs.any_of.iter().map(|place| place.to_bits()).collect();
        any_of.sort_unstable();
        all.insert((needs.parent, any_of));
        all.extend(known.get(&needs.parent).into_iter().flatten().cloned());
    }
    all
}

fn values(axes: &Axes, axis: usize) -> Option<Values> {
    match axes.axes()[axis].kind {
        Kind::Fixed => None,
        Kind::Continuous => Some(Values::Continuous),
        Kind::Unordered { cells } => Some(Values::Unordered { cells }),
        Kind::Ordered { cells } => {
            let domain = &axes.space().parameters()[axis].domain;
            Some(Values::Ordered(Cells::new(cells, domain)))
        }
    }
}
