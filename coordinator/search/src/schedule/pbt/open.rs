//! What PB2 chooses for members of a population: planned with all that it depends on, and taken in later.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;

use super::{Pbt, Planned};
use crate::schedule::Rule;
use crate::schedule::choices::{Choices, Chosen, Open, Other, Round, Seat};
use crate::schedule::member::Phase;

impl Pbt {
    /// What the members train with from here on, as far as that is decided, in their order.
    pub(super) fn others(&self) -> Vec<(TrialId, Other)> {
        if self.bandit.is_none() {
            return Vec::new();
        }
        let members = (0..).map(TrialId).zip(&self.members);
        let others = members.filter_map(|(trial, member)| {
            let known = || {
                let newest = member.lineage.last()?;
                Some(Other::Known(newest.params.clone()))
            };
            let other = match (
                member.phase,
                self.ready.get(&trial).map(|plan| &plan.params),
            ) {
                (Phase::Waits, Some(Planned::New(params))) => Some(Other::Known(params.clone())),
                (Phase::Waits, Some(Planned::Open)) => Some(Other::Chosen((trial, member.from))),
                (Phase::Waits, Some(Planned::Same)) | (Phase::Runs, _) => known(),
                _ => None,
            };
            other.map(|other| (trial, other))
        });
        others.collect()
    }

    /// Keeps for later what PB2 has to choose, with all that it depends on.
    pub(super) fn leave_open(
        &mut self,
        resource: u64,
        others: Vec<(TrialId, Other)>,
        open: Vec<Open>,
    ) {
        let Some(bandit) = self.bandit.as_ref().filter(|_| !open.is_empty()) else {
            return;
        };
        let mut others = others;
        let here = open.iter().enumerate();
        others.extend(here.map(|(position, open)| (open.seat.0, Other::Here(position))));
        others.sort_by_key(|(trial, _)| *trial);
        self.choices.plan(Round {
            bandit: bandit.clone(),
            time: resource as f64 / self.interval as f64,
            others: others.into_iter().map(|(_, other)| other).collect(),
            open,
        });
    }

    /// What is to be worked out before the next promotion, if there is something.
    pub(in crate::schedule) fn choices(&self) -> Option<&Choices> {
        let (_, next) = self.ready.first_key_value()?;
        matches!(next.params, Planned::Open).then_some(&self.choices)
    }

    /// Takes in what was worked out.
    pub(in crate::schedule) fn chosen(&mut self, chosen: Chosen) {
        for (seat, params) in chosen.into_seats() {
            self.choose(seat, params);
        }
        self.prune();
    }

    /// Takes in what is known to have been chosen for the next promotion.
    pub(in crate::schedule) fn adopt(&mut self, params: Params) {
        if let Some((trial, _)) = self.ready.first_key_value() {
            let seat = (*trial, self.from(*trial));
            self.choose(seat, params);
            self.prune();
        }
    }

    fn choose(&mut self, seat: Seat, params: Params) {
        let (trial, resource) = seat;
        let waits = self.from(trial) == resource;
        if let Some(plan) = self.ready.get_mut(&trial)
            && waits
            && matches!(plan.params, Planned::Open)
        {
            plan.params = Planned::New(params.clone());
        }
        self.choices.know(seat, params);
    }

    fn prune(&mut self) {
        let (ready, members) = (&self.ready, &self.members);
        self.choices.prune(|(trial, resource)| {
            let at = members.get(trial.0 as usize).map(|member| member.from);
            let plan = ready.get(&trial).map(|plan| &plan.params);
            at == Some(resource) && matches!(plan, Some(Planned::Open))
        });
    }
}
