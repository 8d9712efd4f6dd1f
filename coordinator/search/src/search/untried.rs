//! Which points may be proposed: those that meet the constraints and, where all that is active has
//! finitely many values, were not proposed before.

use std::collections::BTreeSet;

use trainyard_common::rng::{Key, mix};
use trainyard_common::space::{Listing, MAX_LISTED};

use super::axes::Axes;
use super::history::History;
use super::parzen::frame::Frame;
use super::proposed::Proposed;

/// Even draws until one may be proposed.
const MAX_DRAWS: u64 = 1_000;

/// And draws of what is led to those that meet the constraints, which take longer.
const MAX_RARE: u64 = 64;

/// Of a space with at most so many configurations that meet the constraints one that is left is taken when draws
/// keep repeating. A larger one is hardly used up.
const MAX_LEFT: u64 = 20_000;

#[derive(Debug, Clone, Default)]
pub(super) struct Untried {
    /// Marks of points in the history, of which so many were seen.
    tried: BTreeSet<u64>,
    seen: usize,
    /// What the first so many trials have of a listed space, once draws kept repeating.
    proposed: Proposed,
    numbered: usize,
}

impl Untried {
    /// Learns which points were proposed.
    pub(super) fn update(&mut self, frame: &Frame, history: &History) {
        for past in history.trials.iter().skip(self.seen) {
            self.tried.extend(mark(frame, &past.point));
        }
        self.seen = self.seen.max(history.trials.len());
    }

    /// Whether a settled point may be proposed.
    pub(super) fn may(&self, frame: &Frame, axes: &Axes, point: &[f64]) -> bool {
        self.is_untried(frame, point) && axes.allows(point)
    }

    fn is_untried(&self, frame: &Frame, point: &[f64]) -> bool {
        mark(frame, point).is_none_or(|mark| !self.tried.contains(&mark))
    }

    /// A settled point that may be proposed, where draws from a model are not. Repeats one where all were
    /// proposed; breaks a constraint only where no point is known that meets them all.
    pub(super) fn any(
        &mut self,
        frame: &Frame,
        axes: &Axes,
        history: &History,
        key: Key,
    ) -> Vec<f64> {
        let most = axes.space().draws(MAX_DRAWS);
        let draws = (0..most).map(|draw| axes.draw(key.with(draw)));
        let mut repeated = None;
        for point in draws {
            if axes.allows(&point) {
                if self.is_untried(frame, &point) {
                    return point;
                }
                repeated = Some(point);
            }
        }
        if let Some(point) = self.listed(axes, history, key) {
            return point;
        }
        for draw in 0..MAX_RARE {
            let Some(point) = axes.draw_rare(key.named("rare").with(draw)) else {
                break;
            };
            if self.is_untried(frame, &point) {
                return point;
            }
            repeated.get_or_insert(point);
        }
        repeated.unwrap_or_else(|| axes.draw(key))
    }

    /// One of those that are left, each as likely; `None` where none is, or the space is too large.
    fn listed(&mut self, axes: &Axes, history: &History, key: Key) -> Option<Vec<f64>> {
        let listing = listing(axes)?;
        for past in history.trials.iter().skip(self.numbered) {
            self.proposed.note_point(listing, axes, &past.point);
        }
        self.numbered = self.numbered.max(history.trials.len());
        let left = self.proposed.left(listing);
        let chosen = key.below(MAX_DRAWS, left);
        axes.encode(&self.proposed.nth_left(listing, chosen)?)
    }
}

/// 64 bits that differ, but for one pair in 2^64, between configurations; `None` where a continuous
/// hyperparameter is active, whose values hardly repeat.
fn mark(frame: &Frame, point: &[f64]) -> Option<u64> {
    let mut mark = 0;
    for dim in frame.groups.iter().flat_map(|group| &group.dims) {
        let place = point.get(dim.axis).copied().unwrap_or(f64::NAN);
        let cell = if place.is_nan() {
            u64::MAX
        } else {
            dim.values.cell(place)?
        };
        mark = mix(mark ^ mix(cell));
    }
    Some(mark)
}

/// The list of a small finite space.
fn listing(axes: &Axes) -> Option<Listing<'_>> {
    let few = size(axes) <= u128::from(MAX_LISTED);
    let listing = few.then(|| axes.space().listing()).flatten()?;
    (listing.len() <= MAX_LEFT).then_some(listing)
}

/// Configurations if no hyperparameter were inactive and all combinations were allowed: at least as many as there are.
fn size(axes: &Axes) -> u128 {
    let parameters = axes.space().parameters().iter();
    let counts = parameters.map(|parameter| parameter.domain.cardinality().unwrap_or(u128::MAX));
    counts.fold(1, u128::saturating_mul)
}
