//! What one load of data may take, of bytes and of memory, and whether it is still wanted.
//!
//! Sizes that a file gives are never trusted: whatever grows by what was read is grown here, so that a
//! file that unpacks to far more than the machine holds ends the load and not the process.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::DataError;
use crate::machine;

/// Bytes of text for each byte that is held, at most, by default: a number of 17 digits with its sign,
/// point, exponent and comma is 24 bytes, and is held as 4; the rest is for columns that are ignored.
const BYTES_PER_HELD_BYTE: u64 = 8;
/// The part of a slot's memory that its data may take by default. The rest is for the network, its
/// gradients and moments, the batches on their way, and programs.
const DATA_SHARE: u64 = 2;
/// Less than this is not given to data by default, however many slots share a machine.
const LEAST_MEMORY: u64 = 64 << 20;
/// The first room of what grows, in values.
const FIRST_ROOM: usize = 64;

/// How much the data of one attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of all its sources as they are stored, and once more unpacked.
    pub bytes: u64,
    /// Of its samples in memory.
    pub memory_bytes: u64,
}

impl Limits {
    /// By default, with so many slots on this machine.
    pub fn of_machine(slots: usize) -> Self {
        let slots = slots.max(1) as u64;
        let memory_bytes = machine::memory_bytes() / slots / DATA_SHARE;
        Self::of_memory(memory_bytes.max(LEAST_MEMORY))
    }

    /// By default, with so much memory for samples.
    pub fn of_memory(memory_bytes: u64) -> Self {
        Self {
            bytes: memory_bytes.saturating_mul(BYTES_PER_HELD_BYTE),
            memory_bytes,
        }
    }
}

/// Why a load goes no further. It passes through readers as the inner error of an `io::Error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("told to stop")]
    Cancelled,
    #[error("at least {found} bytes {what}, accepted are at most {limit}")]
    TooLarge {
        what: &'static str,
        found: u64,
        limit: u64,
        setting: &'static str,
    },
    #[error("the system has no memory for {bytes} more bytes")]
    NoMemory { bytes: u64 },
    #[error("more than {limit} bytes")]
    LongRow { limit: usize },
}

impl Refusal {
    /// Of this source.
    pub(crate) fn of(self, url: &str) -> DataError {
        let url = url.to_owned();
        match self {
            Self::Cancelled => DataError::Cancelled,
            Self::TooLarge {
                what,
                found,
                limit,
                setting,
            } => DataError::TooLarge {
                url,
                what,
                found,
                limit,
                setting,
            },
            Self::NoMemory { bytes } => DataError::NoMemory { url, bytes },
            Self::LongRow { limit } => DataError::LongRow { url, limit },
        }
    }
}

impl From<Refusal> for std::io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}

/// What one load has taken so far.
#[derive(Debug)]
pub(crate) struct Allowance {
    limits: Limits,
    stored: AtomicU64,
    unpacked: AtomicU64,
    held: AtomicU64,
    cancel: CancellationToken,
}

impl Allowance {
    pub(crate) fn new(limits: Limits, cancel: CancellationToken) -> Self {
        Self {
            limits,
            stored: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
            held: AtomicU64::new(0),
            cancel,
        }
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Whether the load is still wanted: asked before every block.
    pub(crate) fn wanted(&self) -> Result<(), Refusal> {
        if self.cancel.is_cancelled() {
            return Err(Refusal::Cancelled);
        }
        Ok(())
    }

    /// So many more bytes came from a store.
    pub(crate) fn stored(&self, bytes: u64) -> Result<(), Refusal> {
        add(&self.stored, bytes, self.limits.bytes, "as stored", BYTES)
    }

    /// A source says that it has so many bytes.
    pub(crate) fn announced(&self, bytes: u64) -> Result<(), Refusal> {
        let sofar = AtomicU64::new(self.stored.load(Ordering::Relaxed));
        add(&sofar, bytes, self.limits.bytes, "as stored", BYTES)
    }

    /// So many more bytes were unpacked.
    pub(crate) fn unpacked(&self, bytes: u64) -> Result<(), Refusal> {
        add(&self.unpacked, bytes, self.limits.bytes, "unpacked", BYTES)
    }

    fn hold(&self, bytes: u64) -> Result<(), Refusal> {
        let limit = self.limits.memory_bytes;
        add(&self.held, bytes, limit, "of memory", MEMORY)
    }

    fn release(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Room for `more` values. What grows to a length that is known is given it as `most`, and has no
    /// room left over then.
    pub(crate) fn grow<T>(
        &self,
        values: &mut Vec<T>,
        more: usize,
        most: usize,
    ) -> Result<(), Refusal> {
        let needed = values.len().saturating_add(more);
        let had = values.capacity();
        if needed <= had {
            return Ok(());
        }
        let doubled = had.saturating_mul(2).max(FIRST_ROOM).min(most).max(needed);
        // Near the limit as much as is needed, and no more.
        let (capacity, bytes) = match self.hold(bytes_of::<T>(doubled - had)) {
            Ok(()) => (doubled, bytes_of::<T>(doubled - had)),
            Err(_) => {
                let bytes = bytes_of::<T>(needed - had);
                self.hold(bytes)?;
                (needed, bytes)
            }
        };
        let reserved = values.try_reserve_exact(capacity - values.len());
        reserved.map_err(|_| {
            self.release(bytes);
            Refusal::NoMemory { bytes }
        })
    }

    /// The values without the room that is left over.
    pub(crate) fn boxed<T: Copy>(&self, values: Vec<T>) -> Result<Box<[T]>, Refusal> {
        if values.len() == values.capacity() {
            return Ok(values.into_boxed_slice());
        }
        // Shrinking in place may allocate as well, and cannot fail in an orderly way.
        let mut exact = Vec::new();
        self.grow(&mut exact, values.len(), values.len())?;
        exact.extend_from_slice(&values);
        self.release(bytes_of::<T>(values.capacity()));
        Ok(exact.into_boxed_slice())
    }

    /// Sees to it that there is memory for what is about to be made in many places.
    pub(crate) fn room_for(&self, bytes: u64) -> Result<(), Refusal> {
        self.hold(bytes)?;
        let fits = usize::try_from(bytes)
            .is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
        if fits {
            Ok(())
        } else {
            Err(Refusal::NoMemory { bytes })
        }
    }
}

const BYTES: &str = "data_bytes";
const MEMORY: &str = "data_memory_bytes";

fn bytes_of<T>(values: usize) -> u64 {
    (values as u64).saturating_mul(size_of::<T>() as u64)
}

fn add(
    sum: &AtomicU64,
    bytes: u64,
    limit: u64,
    what: &'static str,
    setting: &'static str,
) -> Result<(), Refusal> {
    let before = sum.fetch_add(bytes, Ordering::Relaxed);
    let found = before.saturating_add(bytes);
    if found <= limit {
        return Ok(());
    }
    sum.fetch_sub(bytes, Ordering::Relaxed);
    Err(Refusal::TooLarge {
        what,
        found,
        limit,
        setting,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(memory_bytes: u64) -> Allowance {
        let limits = Limits {
            bytes: 1000,
            memory_bytes,
        };
        Allowance::new(limits, CancellationToken::new())
    }

    #[test]
    fn what_grows_stays_within_the_memory_and_uses_all_of_it() {
        let allowance = allowance(4_000);
        let mut values: Vec<f32> = Vec::new();
        for _ in 0..1_000 {
            allowance.grow(&mut values, 1, usize::MAX).unwrap();
            values.push(0.0);
        }
        let refused = allowance.grow(&mut values, 1, usize::MAX).unwrap_err();
        let expected = Refusal::TooLarge {
            what: "of memory",
            found: 4_004,
            limit: 4_000,
            setting: "data_memory_bytes",
        };
        assert_eq!(refused, expected);
        assert!(allowance.hold(1).is_err());
    }

    #[test]
    fn what_is_cut_to_its_length_gives_the_rest_back() {
        let allowance = allowance(4_000);
        let mut values: Vec<f32> = Vec::new();
        allowance.grow(&mut values, 1, usize::MAX).unwrap();
        values.push(1.5);
        assert_eq!(&*allowance.boxed(values).unwrap(), [1.5]);
        allowance.hold(3_996).unwrap();
        assert!(allowance.hold(1).is_err());
    }

    #[test]
    fn a_size_that_no_system_has_is_an_error() {
        let allowance = allowance(u64::MAX);
        let mut values: Vec<u64> = Vec::new();
        let refused = allowance.grow(&mut values, usize::MAX / 16, usize::MAX);
        assert!(matches!(refused, Err(Refusal::NoMemory { .. })));
        assert!(allowance.room_for(1 << 62).is_err());
    }

    #[test]
    fn bytes_are_counted_over_all_sources() {
        let allowance = allowance(0);
        allowance.stored(600).unwrap();
        assert!(allowance.announced(401).is_err());
        allowance.announced(400).unwrap();
        allowance.stored(400).unwrap();
        assert!(allowance.stored(1).is_err());
        allowance.unpacked(1_000).unwrap();
        assert!(allowance.unpacked(1).is_err());
        allowance.wanted().unwrap();
        allowance.cancel().cancel();
        assert_eq!(allowance.wanted(), Err(Refusal::Cancelled));
    }
}
