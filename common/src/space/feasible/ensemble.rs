//! Points that meet the constraints, from which draws begin.

use super::super::SearchSpace;
use super::draws::Draws;
use super::place::{Frame, Place, Within};
use crate::rng::Key;

/// Points, for so many hyperparameters at most; [`FEWEST`] for more. They are the error of the share and of the sizes
/// of separate parts, about 1/sqrt(n) for each halving; stages and moves take the longer the more hyperparameters.
const POINTS: [(usize, u64); 3] = [(4, 1_024), (8, 512), (20, 256)];
const FEWEST: u64 = 96;

/// Share of the points that a stage keeps.
const KEPT: f64 = 0.5;

/// Rounds of moves in a stage, and when all points meet the constraints.
const SWEEPS: usize = 2;
const LAST_SWEEPS: usize = 8;

/// Stages without a point that misses the constraints less, after which there is none.
const MAX_STUCK: usize = 20;

/// What gathering may take, in nanoseconds as estimated.
pub(super) const MAX_NS: u64 = 2_000_000_000;

/// What the moves of the last round may take besides.
const LAST_NS: u64 = 300_000_000;

#[derive(Debug)]
pub(super) struct Ensemble {
    /// At least one; all meet the constraints.
    pub(super) places: Vec<Place>,
    /// Of all draws that meet them, about; `None` where it was not measured.
    pub(super) share: Option<f64>,
}

/// A stage on the way.
struct Stage {
    places: Vec<Place>,
    /// Constraints are missed by this at most.
    missed: f64,
    /// Natural logarithm of the share of draws that miss them by no more.
    ln_share: f64,
}

impl Ensemble {
    /// `None`: no point was found.
    pub(super) fn gather(space: &SearchSpace, frame: &Frame, key: Key) -> Option<Self> {
        let mut stage = Stage::first(space, frame, key.named("first"));
        let (mut spent, mut stuck) = (0, 0);
        for number in 0_u64.. {
            if stage.missed == 0.0 {
                return Some(stage.last(space, frame, key.named("last")));
            }
            if spent > MAX_NS || stuck > MAX_STUCK {
                break;
            }
            let key = key.with(number);
            match stage.lower() {
                Some(missed) => {
                    stage.keep(missed, key.named("kept"));
                    stuck = 0;
                }
                None => stuck += 1,
            }
            spent += stage.sweep(space, frame, SWEEPS, MAX_NS - spent.min(MAX_NS), key);
        }
        Self::known(space, frame, key)
    }

    /// So many as are needed of points that meet the constraints and were drawn apart from each other, `share` being that
    /// of all draws that do.
    pub(super) fn drawn(
        space: &SearchSpace,
        share: f64,
        place: impl Fn(u64) -> Option<Place>,
    ) -> Option<Self> {
        let places: Vec<Place> = (0..points(space)).map_while(place).collect();
        (!places.is_empty()).then_some(Self {
            places,
            share: Some(share),
        })
    }

    /// The one point that was found otherwise.
    fn known(space: &SearchSpace, frame: &Frame, key: Key) -> Option<Self> {
        let params = space.found_by_looking()?;
        let place = frame.place(space, params, &mut Draws::new(key.named("known")))?;
        Some(Self {
            places: vec![place],
            share: None,
        })
    }
}

fn points(space: &SearchSpace) -> u64 {
    let hyperparameters = space.parameters().len();
    let fitting = POINTS.iter().find(|(most, _)| hyperparameters <= *most);
    fitting.map_or(FEWEST, |(_, points)| *points)
}

impl Stage {
    fn first(space: &SearchSpace, frame: &Frame, key: Key) -> Self {
        let place = |at| frame.drawn(space, &mut Draws::new(key.with(at)));
        Self {
            places: (0..points(space)).map(place).collect(),
            missed: f64::INFINITY,
            ln_share: frame.cover.ln_volume,
        }
    }

    /// What the next stage allows: less than this one, so that half of the points are kept or, where many miss the
    /// constraints by the same, fewer. `None` where no point misses them by less.
    fn lower(&self) -> Option<f64> {
        let mut missed: Vec<f64> = self.places.iter().map(Place::missed).collect();
        missed.sort_by(f64::total_cmp);
        let middle = missed[(KEPT * (missed.len() - 1) as f64) as usize];
        let most = f64::min(self.missed, *missed.last()?);
        match middle < most {
            true => Some(middle),
            false => missed.into_iter().rfind(|missed| *missed < most),
        }
    }

    /// Goes on with the points that miss the constraints by no more, copied in place of the others.
    fn keep(&mut self, missed: f64, key: Key) {
        let count = self.places.len();
        let places = std::mem::take(&mut self.places);
        self.places = places
            .into_iter()
            .filter(|p| p.missed() <= missed)
            .collect();
        let kept = self.places.len();
        self.ln_share += libm::log(kept as f64 / count as f64);
        self.missed = missed;
        // Each is copied as often as any other, or once more.
        let first = key.below(0, kept as u64) as usize;
        for copy in 0..count - kept {
            self.places.push(self.places[(first + copy) % kept].clone());
        }
    }

    /// Moves every point. Returns what it took.
    fn sweep(
        &mut self,
        space: &SearchSpace,
        frame: &Frame,
        sweeps: usize,
        most_ns: u64,
        key: Key,
    ) -> u64 {
        let others = self.places.clone();
        let mut spent = 0;
        for (at, place) in self.places.iter_mut().enumerate() {
            let mut draws = Draws::new(key.with(at as u64));
            place.spent_ns = 0;
            for _ in 0..sweeps {
                if spent + place.spent_ns > most_ns {
                    break;
                }
                let within = Within::missing(self.missed);
                frame.sweep(space, place, &others, within, &mut draws);
            }
            spent += std::mem::take(&mut place.spent_ns);
        }
        spent
    }

    fn last(mut self, space: &SearchSpace, frame: &Frame, key: Key) -> Ensemble {
        self.sweep(space, frame, LAST_SWEEPS, LAST_NS, key);
        Ensemble {
            places: self.places,
            share: Some(libm::exp(self.ln_share)),
        }
    }
}
