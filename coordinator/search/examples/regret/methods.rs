//! What is compared. A new method is a variant here.

use trainyard_common::rng::Key;
use trainyard_search::search::axes::Axes;
use trainyard_search::search::gp::Gp;
use trainyard_search::search::history::History;

pub(crate) const NAMES: [&str; 2] = ["random", "gp"];

/// Proposes points of the unit cube.
pub(crate) enum Method {
    Random,
    Gp(Box<Gp>),
}

impl Method {
    /// `None` where there is none of this name.
    pub(crate) fn new(name: &str, axes: &Axes, _key: Key) -> Option<Self> {
        match name {
            "random" => Some(Self::Random),
            "gp" => Some(Self::Gp(Box::new(Gp::new(axes, 1_000)))),
            _ => None,
        }
    }

    /// A settled point for a new trial, whose first result comes at `first_resource`.
    pub(crate) fn propose(
        &mut self,
        axes: &Axes,
        history: &History,
        _first_resource: u64,
        key: Key,
    ) -> Vec<f64> {
        match self {
            Self::Random => axes.draw(key),
            Self::Gp(gp) => gp.propose(axes, history, key),
        }
    }
}
