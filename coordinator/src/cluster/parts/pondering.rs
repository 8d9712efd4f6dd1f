//! Suggestions that take long: the machine does other things for a while after each.
//!
//! A turn is short because it asks no more than one such suggestion; what comes meanwhile is answered before the
//! next one.

/// What takes less does not wait: a hundred slots are filled within half a second all the same.
const LONG_MS: u64 = 5;

/// Of the time one part goes to suggestions, and as much again to everything else.
const REST: u64 = 2;

/// Until when no further long suggestion is asked for.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Pondering {
    until_ms: u64,
}

impl Pondering {
    /// Whether a suggestion that takes so long has to wait.
    pub(in crate::cluster) fn rests(&self, now: u64, effort_ms: u64) -> bool {
        effort_ms >= LONG_MS && now < self.until_ms
    }

    /// One that takes so long is asked for now. When the next may be, if it took long.
    pub(in crate::cluster) fn asked(&mut self, now: u64, effort_ms: u64) -> Option<u64> {
        if effort_ms < LONG_MS {
            return None;
        }
        self.until_ms = now.saturating_add(effort_ms.saturating_mul(REST));
        Some(self.until_ms)
    }

    pub(in crate::cluster) fn deadline(&self) -> u64 {
        self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_suggestions_leave_time_for_others() {
        let mut pondering = Pondering::default();
        assert_eq!(pondering.asked(100, LONG_MS - 1), None);
        assert!(!pondering.rests(100, 40));
        assert_eq!(pondering.asked(100, 40), Some(180));
        assert!(pondering.rests(179, LONG_MS));
        assert!(!pondering.rests(179, LONG_MS - 1));
        assert!(!pondering.rests(180, 40));
    }
}
