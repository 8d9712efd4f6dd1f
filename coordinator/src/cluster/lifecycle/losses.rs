//! Losses in a row: how many a trial may have, and the pause after each.

use trainyard_common::spec::RetryBackoffSpec;

/// A trial that fails more often than this in a row without its being counted, and without a checkpoint
/// in between, fails for good: it may take the neighbours on its workers down for ever.
pub(in crate::cluster) const MAX_LOSSES: u32 = 10;

/// Pause after the given number of losses in a row: none after the first.
pub(in crate::cluster) fn pause_after_losses(backoff: &RetryBackoffSpec, losses: u32) -> u64 {
    match losses {
        0 | 1 => 0,
        losses => backoff.pause_ms(losses - 2),
    }
}
