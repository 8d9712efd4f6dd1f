//! What PB2 has still to choose: planned when members are ranked, worked out whenever there is time for it.
//!
//! A choice depends on what was known when its member was ranked, and on the choices before it. A round holds just
//! that, so that it makes no difference who works it out, when, and what comes in meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::spec::Params;

use super::pb2::Bandit;
use crate::search::axes::Axes;

/// A member at the resource at which it was ranked: it gets new hyperparameters there at most once.
pub(super) type Seat = (TrialId, u64);

/// Milliseconds for one product of a model's rows, and for a fit of its constants: measured on one core of a server.
const PRODUCT_MS: f64 = 0.8e-6;
const FIT_MS: f64 = 10.0;

/// Hyperparameters that members of a population go on with and that are still to be worked out.
#[derive(Debug, Clone)]
pub struct Choices {
    axes: Arc<Axes>,
    /// In the order in which they were planned.
    rounds: Vec<Arc<Round>>,
    /// Of these rounds: what is known already.
    known: BTreeMap<Seat, Params>,
}

/// What was worked out.
#[derive(Debug, Clone)]
pub struct Chosen(BTreeMap<Seat, Params>);

/// Members that were ranked together.
#[derive(Debug)]
pub(super) struct Round {
    /// As it was then.
    pub(super) bandit: Bandit,
    /// In stretches.
    pub(super) time: f64,
    /// What the population trains with from there on, in the order of its members.
    pub(super) others: Vec<Other>,
    /// In the order in which they are chosen.
    pub(super) open: Vec<Open>,
}

/// What a member of the population trains with.
#[derive(Debug)]
pub(super) enum Other {
    Known(Params),
    /// Chosen in an earlier round.
    Chosen(Seat),
    /// Chosen in this round, as its so-manieth.
    Here(usize),
}

/// A member that gets new hyperparameters.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) seat: Seat,
    /// What it takes where the model has nothing to say.
    pub(super) varied: Params,
    pub(super) key: Key,
}

impl Choices {
    pub(super) fn new(axes: Arc<Axes>) -> Self {
        Self {
            axes,
            rounds: Vec::new(),
            known: BTreeMap::new(),
        }
    }

    pub(super) fn plan(&mut self, round: Round) {
        self.rounds.push(Arc::new(round));
    }

    /// Milliseconds that working all of it out takes, about.
    pub fn effort_ms(&self) -> u64 {
        let efforts = self.rounds.iter().map(|round| {
            let open = round.open.iter();
            let open = open.filter(|open| !self.known.contains_key(&open.seat));
            let products = round.bandit.products(round.others.len()) as f64;
            let fit = if products > 0.0 { FIT_MS } else { 0.0 };
            fit + open.count() as f64 * products * PRODUCT_MS
        });
        efforts.sum::<f64>() as u64
    }

    /// Works all of it out.
    #[must_use]
    pub fn work_out(mut self) -> Chosen {
        for round in std::mem::take(&mut self.rounds) {
            self.work_out_round(&round);
        }
        Chosen(self.known)
    }

    fn work_out_round(&mut self, round: &Round) {
        let mut bandit = round.bandit.clone();
        bandit.prepare();
        for (position, open) in round.open.iter().enumerate() {
            if self.known.contains_key(&open.seat) {
                continue;
            }
            let others = round.others.iter().filter_map(|other| match other {
                Other::Known(params) => Some(params),
                Other::Chosen(seat) => self.known.get(seat),
                Other::Here(before) if *before < position => {
                    self.known.get(&round.open.get(*before)?.seat)
                }
                Other::Here(_) => None,
            });
            let others: Vec<&Params> = others.collect();
            let chosen = bandit.choose(&self.axes, &open.varied, round.time, &others, open.key);
            let chosen = chosen.unwrap_or_else(|| open.varied.clone());
            self.known.insert(open.seat, chosen);
        }
    }

    /// What was chosen for a member is known.
    pub(super) fn know(&mut self, seat: Seat, params: Params) {
        self.known.insert(seat, params);
    }

    /// Forgets rounds that nobody waits for: neither a member nor a later round that somebody waits for.
    pub(super) fn prune(&mut self, waits: impl Fn(Seat) -> bool) {
        let mut wanted: BTreeSet<Seat> = BTreeSet::new();
        let mut kept = Vec::new();
        for round in std::mem::take(&mut self.rounds).into_iter().rev() {
            let open = round.open.iter().map(|open| open.seat);
            let mut unknown = open.filter(|seat| !self.known.contains_key(seat));
            if unknown.any(|seat| waits(seat) || wanted.contains(&seat)) {
                wanted.extend(round.open.iter().map(|open| open.seat));
                wanted.extend(round.others.iter().filter_map(|other| match other {
                    Other::Chosen(seat) => Some(*seat),
                    Other::Known(_) | Other::Here(_) => None,
                }));
                kept.push(round);
            }
        }
        kept.reverse();
        self.rounds = kept;
        self.known.retain(|seat, _| wanted.contains(seat));
    }
}

impl Chosen {
    pub(super) fn into_seats(self) -> impl Iterator<Item = (Seat, Params)> {
        self.0.into_iter()
    }
}
