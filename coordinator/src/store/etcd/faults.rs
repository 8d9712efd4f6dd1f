//! Faults that tests put between the store and etcd.

use std::sync::Mutex;

/// What happens to the writes that follow.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// After this many more writes the process is as good as dead: nothing reaches etcd any more.
    CutBefore(u32),
    /// After this many more writes one more is applied, but its answer and all else is lost.
    CutAfter(u32),
    /// After this many more writes the answer of the next one is lost; the rest is well.
    LoseAnswer(u32),
}

/// What to do with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Not sent.
    Drop,
    /// Sent, and its answer thrown away. `last`: nothing can be sent afterwards.
    Deafen {
        last: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Fault>);

impl Faults {
    pub(super) fn set(&self, fault: Fault) {
        *self.0.lock().unwrap() = fault;
    }

    /// Whether the planned fault has not come yet.
    pub(super) fn waits(&self) -> bool {
        *self.0.lock().unwrap() != Fault::None
    }

    /// To be asked once for each write that is sent.
    pub(super) fn next(&self) -> Verdict {
        let mut fault = self.0.lock().unwrap();
        let (then, verdict) = match *fault {
            Fault::None => (Fault::None, Verdict::Pass),
            Fault::CutBefore(0) => (Fault::CutBefore(0), Verdict::Drop),
            Fault::CutBefore(left) => (Fault::CutBefore(left - 1), Verdict::Pass),
            Fault::CutAfter(0) => (Fault::CutBefore(0), Verdict::Deafen { last: true }),
            Fault::CutAfter(left) => (Fault::CutAfter(left - 1), Verdict::Pass),
            Fault::LoseAnswer(0) => (Fault::None, Verdict::Deafen { last: false }),
            Fault::LoseAnswer(left) => (Fault::LoseAnswer(left - 1), Verdict::Pass),
        };
        *fault = then;
        verdict
    }
}
