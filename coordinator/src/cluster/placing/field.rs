//! Slots that a gang could have if others left them.

use std::collections::BTreeMap;

use trainyard_common::spec::Device;

use crate::cluster::Machine;
use crate::cluster::model::AttemptRef;
use crate::placement::choose::{Holder, Seat};
use crate::placement::queue::Ask;
use crate::placement::{DEVICES, Place};

/// Slots that a gang could have, and who holds them.
pub(in crate::cluster) struct Field {
    pub(in crate::cluster) seats: Vec<Seat>,
    pub(in crate::cluster) holders: Vec<Holder>,
    pub(in crate::cluster) attempts: Vec<AttemptRef>,
}

impl Machine {
    /// Slots on usable workers that have what is needed, of those that are kept for others only if asked.
    /// `holder`: what is known of who holds one; `None`: it cannot be had.
    pub(in crate::cluster) fn field(
        &self,
        ask: &Ask,
        kept_too: bool,
        holder: impl Fn(&Self, &AttemptRef) -> Option<Holder>,
    ) -> Field {
        let mut field = Field {
            seats: Vec::new(),
            holders: Vec::new(),
            attempts: Vec::new(),
        };
        let mut known: BTreeMap<AttemptRef, Option<usize>> = BTreeMap::new();
        let device: Device = DEVICES[ask.device];
        let serving = self.workers.iter();
        let serving = serving.filter(|(id, _)| self.slots.index().serves(id, &ask.needs));
        for (id, worker) in serving {
            for (slot, held) in (0u32..).zip(&worker.slots) {
                let other = worker.device(slot as usize) != device;
                if other || (!kept_too && self.slots.index().kept(id, slot).is_some()) {
                    continue;
                }
                let held = match held.as_ref().filter(|rank| !self.leaves(&rank.at)) {
                    None => None,
                    Some(rank) => {
                        let at = known.entry(rank.at.clone()).or_insert_with(|| {
                            field.holders.push(holder(self, &rank.at)?);
                            field.attempts.push(rank.at.clone());
                            Some(field.holders.len() - 1)
                        });
                        if at.is_none() {
                            continue;
                        }
                        *at
                    }
                };
                field.seats.push(Seat {
                    place: Place {
                        worker: id.clone(),
                        slot,
                    },
                    kind: worker.info.cpu_kind.clone(),
                    held,
                });
            }
        }
        field
    }
}
