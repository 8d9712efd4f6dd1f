//! The configurations that meet the constraints, drawn evenly however few they are.
//!
//! As likely as draws of the whole space of which those that break a constraint are thrown away. First boxes are put
//! around what meets them, so that draws are of these; where enough of those are left, that is all. Otherwise a few hundred points are led there in stages: each keeps those that miss the constraints least,
//! copies them in place of the others, and moves all of them among what misses them as little (sequential Monte Carlo
//! for rare events: Cérou, Del Moral, Furon and Guyader, Statistics and Computing 22, 2012). A draw is one of these
//! points after many moves of its own. Moves are slices with shrinkage (Neal, Annals of Statistics 31, 2003), along one
//! axis or in the direction from one point to another, which leave even draws even.
//!
//! Points lie in the unit cube, where every hyperparameter has a place whether or not it is active; a configuration is
//! what [`Domain::at`](super::Domain::at) makes of its places.

mod cover;
#[cfg(test)]
mod cover_tests;
mod draws;
mod ensemble;
mod place;
#[cfg(test)]
mod tests;

use draws::Draws;
use ensemble::Ensemble;
use place::{Frame, Place, Within};

use super::SearchSpace;
use crate::rng::Key;
use crate::spec::Params;

/// Moves of a draw along every axis, at least, and for each hyperparameter one more: the time in which places that
/// push each other (`a <= b <= c ...`) forget where they were grows with their number.
const SWEEPS: usize = 8;
const MOST_SWEEPS: usize = 32;

/// Rounds of moves of a variation: it is to stay near.
const NEAR_SWEEPS: usize = 2;

/// A round of moves takes as long as so many draws of the whole space, about.
const MOVES: u64 = 12;

/// What one draw may take, in nanoseconds as estimated.
const DRAW_NS: u64 = 20_000_000;

/// Draws of the boxes by which the share of them is measured that meets the constraints, and of that share the least
/// number that tells it.
const PROBES: u64 = 4_000;
const LEAST_MET: u64 = 8;

/// What a draw takes that is one of the boxes' draws, on average and at most, in nanoseconds as estimated: not much more
/// than moves do.
const THROWN_NS: u64 = 1_500_000;
/// So many times the average is hardly ever exceeded: once in e^20.
const PATIENCE: f64 = 20.0;

/// Share of draws that meet the constraints below which nobody waits for one.
const RARE: f64 = 1e-3;

/// What is known about them, for draws.
#[derive(Debug)]
pub(super) struct Feasible {
    frame: Frame,
    ensemble: Ensemble,
    /// Where draws of the boxes are thrown away until one meets the constraints: so many at most.
    thrown: Option<u64>,
}

impl Feasible {
    /// `None`: no configuration that meets the constraints was found.
    pub(super) fn find(space: &SearchSpace) -> Option<Self> {
        let key = Key::new(0).named("feasible");
        let frame = Frame::new(space, key.named("scales"));
        if let Some(met) = probed(space, &frame, key.named("probe")) {
            let most = (PATIENCE / met) as u64;
            let share = met * libm::exp(frame.cover.ln_volume);
            let place = |at| {
                thrown(
                    space,
                    &frame,
                    most,
                    &mut Draws::new(key.named("drawn").with(at)),
                )
            };
            if let Some(ensemble) = Ensemble::drawn(space, share, place) {
                return Some(Self {
                    frame,
                    ensemble,
                    thrown: Some(most),
                });
            }
        }
        let ensemble = Ensemble::gather(space, &frame, key)?;
        Some(Self {
            frame,
            ensemble,
            thrown: None,
        })
    }

    /// The share of all draws that meet the constraints, about; `None` where it was not measured.
    pub(super) fn share(&self) -> Option<f64> {
        self.ensemble.share
    }

    /// A configuration, whatever was drawn before.
    fn draw(&self, space: &SearchSpace, key: Key) -> Params {
        let mut draws = Draws::new(key);
        let found = self
            .thrown
            .and_then(|most| thrown(space, &self.frame, most, &mut draws));
        if let Some(place) = found {
            return place.params(space);
        }
        let places = &self.ensemble.places;
        let mut place = places[draws.below(places.len())].clone();
        for _ in 0..sweeps(space) {
            self.frame
                .sweep(space, &mut place, places, Within::everything(), &mut draws);
            if place.spent_ns > DRAW_NS {
                break;
            }
        }
        place.params(space)
    }

    /// A configuration near one that meets the constraints.
    fn near(&self, space: &SearchSpace, params: &Params, width: f64, key: Key) -> Option<Params> {
        let mut draws = Draws::new(key);
        let mut place = self.frame.place(space, params, &mut draws)?;
        let within = Within::around(&place, width);
        for _ in 0..NEAR_SWEEPS {
            self.frame.sweep(
                space,
                &mut place,
                &self.ensemble.places,
                within.clone(),
                &mut draws,
            );
            if place.spent_ns > DRAW_NS {
                break;
            }
        }
        Some(place.params(space))
    }

    /// The first of the points that draws begin with.
    pub(super) fn first(&self, space: &SearchSpace) -> Option<Params> {
        let place: &Place = self.ensemble.places.first()?;
        Some(place.params(space))
    }
}

/// The share of draws of the boxes that meets the constraints, where that is enough to draw until one does.
fn probed(space: &SearchSpace, frame: &Frame, key: Key) -> Option<f64> {
    let most = space.affordable(PROBES);
    let draw = |at: &u64| frame.drawn(space, &mut Draws::new(key.with(*at))).missed() == 0.0;
    let met = (0..most).filter(draw).count() as u64;
    let share = met as f64 / most as f64;
    let takes = space.draw_ns() as f64 / share;
    (met >= LEAST_MET && takes <= THROWN_NS as f64).then_some(share)
}

/// A draw of the boxes that meets the constraints, of so many.
fn thrown(space: &SearchSpace, frame: &Frame, most: u64, draws: &mut Draws) -> Option<Place> {
    let mut drawn = (0..most).map(|_| frame.drawn(space, draws));
    drawn.find(|place| place.missed() == 0.0)
}

fn sweeps(space: &SearchSpace) -> usize {
    (SWEEPS + space.parameters().len()).min(MOST_SWEEPS)
}

impl SearchSpace {
    /// A configuration that meets the constraints, where draws are in vain: each as likely as [`sample`](Self::sample)
    /// draws it if those that break one are thrown away, within the error of sampling. `None`: none is known.
    pub fn sample_rare(&self, key: Key) -> Option<Params> {
        let feasible = self.feasible()?;
        let drawn = feasible.draw(self, key.named("allowed"));
        self.allows(&drawn).then_some(drawn)
    }

    /// A variation of a configuration that meets the constraints, which meets them too: each hyperparameter at most
    /// `width`, a share of its range, away. `None` where the configuration is not one that meets them.
    pub fn vary_allowed(&self, params: &Params, width: f64, key: Key) -> Option<Params> {
        let feasible = self.feasible()?;
        let varied = feasible.near(self, params, width, key.named("near"))?;
        self.allows(&varied).then_some(varied)
    }

    /// The share of configurations that meet the constraints, of draws of the whole space: counted where they are few,
    /// otherwise estimated. `None`: no constraints, or none that meets them was found.
    pub fn allowed_share(&self) -> Option<f64> {
        if !self.is_constrained() {
            return None;
        }
        let drawn = self.drawn_share();
        if drawn >= RARE {
            return Some(drawn);
        }
        match self.counted() {
            Some((allowed, all)) => (allowed > 0).then(|| allowed as f64 / all as f64),
            None => self.feasible()?.share(),
        }
    }

    /// Whether draws are in vain, since hardly any meets the constraints.
    pub fn rarely_allows(&self) -> bool {
        self.is_constrained() && self.drawn_share() < RARE
    }

    /// What [`sample_rare`](Self::sample_rare) takes at most, about, in nanoseconds.
    pub(super) fn rare_ns(&self) -> u64 {
        let draw = u64::max(MOVES * sweeps(self) as u64 * self.draw_ns(), THROWN_NS);
        match self.is_prepared() {
            true => draw.min(DRAW_NS),
            false => DRAW_NS + ensemble::MAX_NS,
        }
    }
}
