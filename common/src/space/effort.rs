//! What drawing configurations takes, and so how often it may be tried.

use super::SearchSpace;

/// What draws until one meets the constraints may take together, in nanoseconds as estimated.
const MAX_DRAWING_NS: u64 = 300_000_000;

/// To draw the value of one hyperparameter, and to judge one character of a constraint, about.
pub(super) const VALUE_NS: u64 = 100;
pub(super) const CHARACTER_NS: u64 = 1;

/// So many draws are made whatever they take.
const FEW_DRAWS: u64 = 100;

impl SearchSpace {
    /// How often a searcher that wants `most` draws may draw until one meets the constraints: as often as there is time
    /// for, and not at all where hardly any draw would.
    pub fn draws(&self, most: u64) -> u64 {
        match self.rarely_allows() {
            true => 0,
            false => self.affordable(most),
        }
    }

    /// Of so many draws those that there is time for: fewer where many hyperparameters or long constraints make each
    /// of them long.
    pub(super) fn affordable(&self, most: u64) -> u64 {
        let fit = MAX_DRAWING_NS / self.draw_ns().max(1);
        most.min(fit.max(FEW_DRAWS))
    }

    /// What it takes to draw one that meets the constraints, about and at most, in milliseconds, if so many draws may
    /// be refused first.
    pub fn drawing_ms(&self, refused: u64) -> u64 {
        if !self.is_constrained() {
            return 0;
        }
        let ns = match self.rarely_allows() {
            true => self.rare_ns(),
            false => self.draws(refused) * self.draw_ns(),
        };
        ns / 1_000_000
    }

    /// What drawing a configuration and judging it takes at most, about, in nanoseconds.
    pub fn draw_ns(&self) -> u64 {
        let characters = self
            .constraints
            .iter()
            .map(|constraint| constraint.text().len());
        let characters = characters.sum::<usize>() as u64;
        self.parameters.len() as u64 * VALUE_NS + characters * CHARACTER_NS
    }
}
