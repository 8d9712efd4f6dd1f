//! What is compared. A new method is a variant here.

use trainyard_common::rng::Key;
use trainyard_search::search::axes::Axes;
use trainyard_search::search::bohb::Bohb;
use trainyard_search::search::cma::Cma;
use trainyard_search::search::dehb::Dehb;
use trainyard_search::search::gp::Gp;
use trainyard_search::search::history::History;
use trainyard_search::search::tpe::Tpe;

pub(crate) const NAMES: [&str; 6] = ["random", "cma", "tpe", "gp", "bohb", "dehb"];

/// Proposes points of the unit cube.
pub(crate) enum Method {
    Random,
    Cma(Box<Cma>),
    Tpe(Box<Tpe>),
    Gp(Box<Gp>),
    Bohb(Box<Bohb>),
    Dehb(Box<Dehb>),
}

impl Method {
    /// `None` where there is none of this name.
    pub(crate) fn new(name: &str, axes: &Axes, key: Key) -> Option<Self> {
        match name {
            "random" => Some(Self::Random),
            "cma" => Some(Self::Cma(Box::new(Cma::new(axes, key)))),
            "tpe" => Some(Self::Tpe(Box::new(Tpe::new(axes)))),
            "gp" => Some(Self::Gp(Box::new(Gp::new(axes, 1_000)))),
            "bohb" => Some(Self::Bohb(Box::new(Bohb::new(axes)))),
            "dehb" => Some(Self::Dehb(Box::new(Dehb::new(axes, key)))),
            _ => None,
        }
    }

    /// A settled point for a new trial, whose first result comes at `first_resource`.
    pub(crate) fn propose(
        &mut self,
        axes: &Axes,
        history: &History,
        first_resource: u64,
        key: Key,
    ) -> Vec<f64> {
        match self {
            Self::Random => axes.draw(key),
            Self::Dehb(dehb) => dehb.propose(axes, history, first_resource, key),
            Self::Cma(cma) => cma.propose(axes, history, key),
            Self::Bohb(bohb) => bohb.propose(axes, history, key),
            Self::Tpe(tpe) => tpe.propose(axes, history, key),
            Self::Gp(gp) => gp.propose(axes, history, key),
        }
    }
}
