//! The search space as models see it: points of the unit cube, one axis for each hyperparameter.
//!
//! A coordinate lies in [0, 1]. Where a hyperparameter has finitely many values, each has a cell of the
//! axis and its coordinate is the cell's middle. NaN is the coordinate of an inactive hyperparameter.

use serde_json::Value;
use trainyard_common::rng::Key;
use trainyard_common::space::{Domain, Parameter, Positions, SearchSpace};
use trainyard_common::spec::Params;

/// How far a coordinate may lie from the middle of its own cell: the error of reading its value again.
const SAME_CELL: f64 = 1e-9;

/// What kind of values an axis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value: nothing to choose.
    Fixed,
    /// A range of numbers.
    Continuous,
    /// So many values whose order means something.
    Ordered { cells: u64 },
    /// So many values without an order; cell k is the k-th.
    Unordered { cells: u64 },
}

/// Active only while the parent's coordinate is one of these.
#[derive(Debug, Clone, PartialEq)]
pub struct Needs {
    pub parent: usize,
    /// Coordinates of the parent, each the middle of a cell, ascending.
    pub any_of: Vec<f64>,
}

impl Needs {
    /// Whether this is the coordinate of one of them.
    pub fn hold(&self, parent: f64) -> bool {
        let next = self.any_of.partition_point(|wanted| *wanted < parent);
        let around = self.any_of[next.saturating_sub(1)..].iter().take(2);
        around
            .into_iter()
            .any(|wanted| (wanted - parent).abs() < SAME_CELL)
    }
}

/// One hyperparameter.
#[derive(Debug, Clone)]
pub struct Axis {
    pub kind: Kind,
    /// All must hold.
    pub needs: Vec<Needs>,
    domain: Domain,
    /// Of a list.
    positions: Option<Positions>,
}

impl Axis {
    /// The coordinate of the value that lies at this place of the axis.
    pub fn snap(&self, place: f64) -> f64 {
        match self.kind {
            Kind::Fixed => 0.5,
            Kind::Continuous => place.clamp(0.0, 1.0),
            Kind::Ordered { cells } | Kind::Unordered { cells } if self.positions.is_some() => {
                middle(self.cell(place.clamp(0.0, 1.0 - f64::EPSILON)), cells)
            }
            Kind::Ordered { .. } | Kind::Unordered { .. } => {
                let value = self.domain.at(place.clamp(0.0, 1.0 - f64::EPSILON));
                self.domain.share(&value).unwrap_or(0.5)
            }
        }
    }

    /// The coordinate of a cell, of those that [`Kind`] counts.
    pub fn middle(&self, cell: u64) -> f64 {
        match self.kind {
            Kind::Fixed | Kind::Continuous => 0.5,
            Kind::Ordered { cells } | Kind::Unordered { cells } if self.positions.is_some() => {
                middle(cell, cells)
            }
            Kind::Ordered { .. } | Kind::Unordered { .. } => {
                self.domain.share(&self.domain.grid_at(cell)).unwrap_or(0.5)
            }
        }
    }

    /// The coordinate of a value; `None` for what is none of the domain.
    fn share(&self, value: &Value) -> Option<f64> {
        match (&self.positions, self.kind) {
            (Some(positions), Kind::Ordered { cells } | Kind::Unordered { cells }) => {
                Some(middle(positions.of(value)?, cells))
            }
            _ => self.domain.share(value),
        }
    }

    /// The number of an unordered axis' value at a coordinate.
    pub fn cell(&self, coordinate: f64) -> u64 {
        match self.kind {
            Kind::Fixed | Kind::Continuous => 0,
            Kind::Ordered { cells } | Kind::Unordered { cells } => {
                ((coordinate * cells as f64) as u64).min(cells - 1)
            }
        }
    }
}

/// All axes, and what points of the cube mean.
#[derive(Debug, Clone)]
pub struct Axes {
    space: SearchSpace,
    axes: Vec<Axis>,
}

impl Axes {
    pub fn new(space: SearchSpace) -> Self {
        let parameters = space.parameters();
        let mut axes: Vec<Axis> = parameters
            .iter()
            .map(|parameter| Axis {
                kind: kind(&parameter.domain),
                needs: Vec::new(),
                domain: parameter.domain.clone(),
                positions: parameter.domain.positions(),
            })
            .collect();
        for (position, parameter) in parameters.iter().enumerate() {
            let needs = parameter.conditions.iter().map(|condition| {
                let parent = &axes[condition.parent];
                let places = condition.values.iter();
                let mut any_of: Vec<f64> = places.filter_map(|v| parent.share(v)).collect();
                any_of.sort_by(f64::total_cmp);
                Needs {
                    parent: condition.parent,
                    any_of,
                }
            });
            axes[position].needs = needs.collect();
        }
        Self { space, axes }
    }

    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The configuration at a point. Coordinates of inactive hyperparameters do not matter.
    pub fn decode(&self, point: &[f64]) -> Params {
        let place = |axis: usize| point.get(axis).copied().unwrap_or(0.5);
        self.space
            .at(|axis| place(axis).clamp(0.0, 1.0 - f64::EPSILON))
    }

    /// The point of a configuration; `None` where it is not one of the space.
    pub fn encode(&self, params: &Params) -> Option<Vec<f64>> {
        let parameters = self.space.parameters().iter().zip(&self.axes);
        let coordinate = |(parameter, axis): (&Parameter, &Axis)| {
            let given = params.get(&parameter.name);
            given.map_or(Some(f64::NAN), |value| axis.share(value))
        };
        let point: Option<Vec<f64>> = parameters.map(coordinate).collect();
        point.filter(|_| self.space.contains(params).is_ok())
    }

    /// Moves a point to the nearest that a configuration has: coordinates to their cells' middles, inactive
    /// ones to NaN. An active one that is NaN goes to the middle of its axis.
    pub fn settle(&self, point: &mut [f64]) {
        for &position in self.space.parents_first() {
            let axis = &self.axes[position];
            point[position] = match point[position] {
                _ if !self.is_active(position, point) => f64::NAN,
                place if place.is_nan() => axis.snap(0.5),
                place => axis.snap(place),
            };
        }
    }

    /// Whether an axis is active, given its parents' coordinates.
    pub fn is_active(&self, position: usize, point: &[f64]) -> bool {
        let mut needs = self.axes[position].needs.iter();
        needs.all(|needs| needs.hold(point[needs.parent]))
    }

    /// A settled point drawn evenly; each axis has its own key.
    pub fn draw(&self, key: Key) -> Vec<f64> {
        let mut point: Vec<f64> = (0..self.axes.len() as u64)
            .map(|axis| key.unit(axis))
            .collect();
        self.settle(&mut point);
        point
    }

    /// A settled point drawn evenly from those that meet the constraints, however few they are; `None` where there are
    /// no constraints, none that meets them is known, or they are listed, from which whoever repeats is given another.
    pub fn draw_rare(&self, key: Key) -> Option<Vec<f64>> {
        let is_constrained = self.space.is_constrained() && self.space.cardinality().is_none();
        let params = is_constrained.then(|| self.space.sample_rare(key))??;
        self.encode(&params)
    }

    /// A settled point at most `width` away from one that meets the constraints, which meets them too. `None` where
    /// that does not, or there are no constraints.
    pub fn vary_allowed(&self, point: &[f64], width: f64, key: Key) -> Option<Vec<f64>> {
        let is_constrained = self.space.is_constrained();
        let from = is_constrained.then(|| self.decode(point))?;
        self.encode(&self.space.vary_allowed(&from, width, key)?)
    }

    /// Whether the configuration at a settled point meets the constraints.
    pub fn allows(&self, point: &[f64]) -> bool {
        !self.space.is_constrained() || self.space.allows(&self.decode(point))
    }
}

/// The middle of a cell.
fn middle(cell: u64, cells: u64) -> f64 {
    (cell as f64 + 0.5) / cells as f64
}

fn kind(domain: &Domain) -> Kind {
    let cells = domain
        .cardinality()
        .map(|cells| u64::try_from(cells).unwrap_or(u64::MAX));
    match (domain, cells) {
        (_, Some(0 | 1)) => Kind::Fixed,
        (Domain::Categorical(_), Some(cells)) => Kind::Unordered { cells },
        (_, Some(cells)) => Kind::Ordered { cells },
        (_, None) => Kind::Continuous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trainyard_common::spec::Space;

    fn axes() -> Axes {
        let space: Space = serde_json::from_value(json!({
            "lr": {"type": "double", "minval": 1e-5, "maxval": 1.0, "log": true},
            "units": {"type": "int", "minval": 1, "maxval": 500, "log": true},
            "layers": {"type": "int", "minval": 2, "maxval": 10, "step": 2},
            "optimizer": {"type": "categorical", "vals": ["sgd", "adam", "rmsprop"]},
            "momentum": {"type": "double", "minval": 0, "maxval": 0.9, "step": 0.1, "when": {"optimizer": ["sgd", "rmsprop"]}},
            "nesterov": {"type": "categorical", "vals": [true, false], "when": {"layers": 10, "optimizer": "sgd"}},
            "fixed": {"type": "const", "val": 3},
        }))
        .unwrap();
        Axes::new(SearchSpace::new(&space).unwrap())
    }

    #[test]
    fn points_and_configurations_are_the_same() {
        let axes = axes();
        for seed in 0..2_000 {
            let point = axes.draw(Key::new(seed));
            let params = axes.decode(&point);
            axes.space().contains(&params).unwrap();
            let again = axes.encode(&params).unwrap();
            for (axis, (a, b)) in point.iter().zip(&again).enumerate() {
                assert!(
                    (a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan()),
                    "axis {axis}: {a} {b}"
                );
            }
            assert_eq!(axes.decode(&again), params);
            assert_eq!(
                params.contains_key("nesterov"),
                params["layers"] == 10 && params["optimizer"] == "sgd"
            );
        }
    }

    #[test]
    fn cells_are_counted() {
        let axes = axes();
        let kinds: Vec<Kind> = axes.axes().iter().map(|axis| axis.kind).collect();
        assert_eq!(
            kinds,
            [
                Kind::Continuous,
                Kind::Ordered { cells: 500 },
                Kind::Ordered { cells: 5 },
                Kind::Unordered { cells: 3 },
                Kind::Ordered { cells: 10 },
                Kind::Unordered { cells: 2 },
                Kind::Fixed,
            ]
        );
        let optimizer = &axes.axes()[3];
        assert_eq!(
            (0..3)
                .map(|k| optimizer.cell(optimizer.middle(k)))
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
        let layers = &axes.axes()[2];
        assert_eq!(layers.snap(0.55), layers.middle(2));
    }
}
