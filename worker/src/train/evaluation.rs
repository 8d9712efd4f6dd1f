//! Judges a part of the data, cut over the ranks so that the result does not depend on how many
//! there are: each fixed chunk is judged whole by one rank, and the chunks' sums are added in order.

use super::shard::targets;
use super::totals::Totals;
use super::{StopMode, TrainError};
use crate::collective::{CollectiveError, Group, partition};
use crate::data::Part;
use trainyard_network::Network;

/// What is judged and in which pieces.
pub(crate) struct Evaluation<'a> {
    pub(crate) network: &'a Network,
    pub(crate) part: &'a Part,
    /// Only the first so many samples.
    pub(crate) samples: usize,
    /// Samples in a chunk.
    pub(crate) chunk: usize,
}

/// What came of it, the same on every rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Judged {
    /// With the strongest wish to stop that a rank had meanwhile.
    Whole(Totals, Option<StopMode>),
    /// A rank was asked to leave at once.
    Abandoned,
}

impl Evaluation<'_> {
    /// Every rank must call it. `stop` is asked before each chunk.
    pub(crate) fn run(
        &self,
        group: &mut dyn Group,
        stop: &dyn Fn() -> Option<StopMode>,
    ) -> Result<Judged, TrainError> {
        let chunks = self.samples.div_ceil(self.chunk);
        let (rank, world_size) = (group.rank(), group.world_size());
        let mut message = vec![0];
        for chunk in partition::slice(chunks, world_size, rank) {
            if stop() == Some(StopMode::Now) {
                break;
            }
            message.extend(self.judge(chunk)?.to_bytes());
        }
        message[0] = encode(stop());
        let messages = group.all_gather(&message)?;
        let mut wish = None;
        let mut totals = Totals::default();
        for (rank, message) in messages.iter().enumerate() {
            wish = wish.max(message.first().and_then(|&byte| decode(byte)));
            let sums = message.get(1..).unwrap_or_default().as_chunks().0;
            let expected = partition::slice(chunks, world_size, rank).len();
            if sums.len() != expected && wish != Some(StopMode::Now) {
                return Err(CollectiveError::WrongLength {
                    rank,
                    operation: "an evaluation",
                    given: message.len(),
                    expected: 1 + expected * Totals::BYTES,
                }
                .into());
            }
            sums.iter()
                .for_each(|bytes| totals.add(Totals::from_bytes(bytes)));
        }
        Ok(match wish {
            Some(StopMode::Now) => Judged::Abandoned,
            wish => Judged::Whole(totals, wish),
        })
    }

    fn judge(&self, chunk: usize) -> Result<Totals, TrainError> {
        let end = ((chunk + 1) * self.chunk).min(self.samples);
        let positions: Vec<usize> = (chunk * self.chunk..end).collect();
        let batch = self.part.gather(&positions);
        let outcome = self.network.evaluate(&batch.features, targets(&batch))?;
        Ok(outcome.into())
    }
}

fn encode(stop: Option<StopMode>) -> u8 {
    match stop {
        None => 0,
        Some(StopMode::Checkpoint) => 1,
        Some(StopMode::Now) => 2,
    }
}

fn decode(byte: u8) -> Option<StopMode> {
    match byte {
        0 => None,
        1 => Some(StopMode::Checkpoint),
        _ => Some(StopMode::Now),
    }
}
