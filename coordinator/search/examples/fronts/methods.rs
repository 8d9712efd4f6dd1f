//! What is compared. A new method is a variant here.

use trainyard_common::rng::Key;
use trainyard_search::search::axes::Axes;
use trainyard_search::search::history::History;
use trainyard_search::search::nsga2::Nsga2;

pub(crate) enum Method {
    Random,
    Nsga2(Nsga2),
}

impl Method {
    /// `None` where there is none of this name.
    pub(crate) fn new(name: &str, trials: usize) -> Option<Self> {
        match name {
            "random" => Some(Self::Random),
            "nsga2" => {
                let population = Nsga2::default_population(trials as u32);
                Some(Self::Nsga2(Nsga2::new(population)))
            }
            _ => None,
        }
    }

    pub(crate) fn propose(
        &mut self,
        axes: &Axes,
        history: &History,
        costs: &[Option<Vec<f64>>],
        key: Key,
    ) -> Vec<f64> {
        match self {
            Self::Random => axes.draw(key),
            Self::Nsga2(nsga2) => nsga2.propose(axes, history, costs, key),
        }
    }
}
