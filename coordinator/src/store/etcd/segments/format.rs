//! The bytes of a segment object, and of the key that names it. Pure.
//!
//! An object is: `TYSEGMNT`, the format version (u32, little-endian), its runs, then the items of all
//! runs in order, each as length and bytes. A run is consecutive items of one series.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use trainyard_common::ids::{JobId, TrialId};

use super::super::super::checksum::{self, Sum};
use super::super::super::{Series, SeriesKind};
use super::super::codec::{Malformed, Reader, put_bytes, put_varint};

/// Version of an object's form. Larger ones are refused.
const FORMAT_VERSION: u32 = 1;

/// Version of a key's form. Larger ones are refused; the first had no checksum.
const KEY_VERSION: u32 = 2;

/// What checksums of keys are of.
const TABLE: &str = "segments";

const MAGIC: &[u8; 8] = b"TYSEGMNT";

/// An object that grows past this is closed: it is read whole.
const MAX_SEGMENT_BYTES: usize = 4 * 1024 * 1024;

/// Runs of one object: about ten bytes each in the key that names it, which stay below 64 KiB.
const MAX_RUNS: usize = 2_048;

/// Bytes of job names in one object, for the same reason.
const MAX_NAME_BYTES: usize = 16 * 1024;

/// Names an object: the term that wrote it and its number within the term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct SegmentId {
    pub(in super::super) term: u64,
    pub(in super::super) sequence: u64,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{:010}", self.term, self.sequence)
    }
}

impl SegmentId {
    /// Reads what `Display` writes.
    pub(in super::super) fn parse(text: &str) -> Option<Self> {
        let (term, sequence) = text.split_once('/')?;
        Some(Self {
            term: u64::from_str_radix(term, 16).ok()?,
            sequence: sequence.parse().ok()?,
        })
    }
}

/// Consecutive items of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Run {
    pub(in super::super) series: Series,
    pub(in super::super) first: u64,
    pub(in super::super) count: u64,
}

impl Run {
    /// The number after the last.
    pub(in super::super) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// What the key says of an object: that it counts, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Meta {
    pub(in super::super) digest: [u8; 32],
    pub(in super::super) bytes: u64,
    pub(in super::super) runs: Vec<Run>,
    /// Said by a program of the first format, which left the items of jobs that were removed in the object.
    pub(in super::super) old: bool,
}

impl Meta {
    /// The value of the key that names `id`.
    pub(in super::super) fn encode(&self, id: SegmentId) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(KEY_VERSION));
        out.extend_from_slice(&self.digest);
        put_varint(&mut out, self.bytes);
        put_runs(&mut out, &self.runs);
        let sum = sum_of(id, &out);
        out.extend_from_slice(&sum);
        out
    }

    pub(in super::super) fn decode(id: SegmentId, stored: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stored);
        let version = reader.varint()?;
        if version > u64::from(KEY_VERSION) {
            return Err(Malformed("a segment key of a newer program"));
        }
        let meta = Self {
            digest: reader.array()?,
            bytes: reader.varint()?,
            runs: read_runs(&mut reader)?,
            old: version < 2,
        };
        if version > 1 {
            let sealed = &stored[..stored.len() - reader.len()];
            if reader.array()? != sum_of(id, sealed) {
                return Err(Malformed(
                    "its bytes are not those that were written (checksum)",
                ));
            }
        }
        match reader.is_empty() {
            true => Ok(meta),
            false => Err(Malformed("bytes after its last run")),
        }
    }
}

fn sum_of(id: SegmentId, sealed: &[u8]) -> Sum {
    checksum::of(TABLE, &[id.to_string().as_bytes()], sealed)
}

fn code(kind: SeriesKind) -> u8 {
    match kind {
        SeriesKind::Points => 0,
        SeriesKind::Logs => 1,
        SeriesKind::Decisions => 2,
    }
}

fn kind(code: u8) -> Result<SeriesKind, Malformed> {
    match code {
        0 => Ok(SeriesKind::Points),
        1 => Ok(SeriesKind::Logs),
        2 => Ok(SeriesKind::Decisions),
        _ => Err(Malformed(
            "a kind of series that this program does not know",
        )),
    }
}

/// The names of jobs once, then the runs, in order.
fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    let mut numbers: BTreeMap<&JobId, u64> = BTreeMap::new();
    for run in runs {
        let next = numbers.len() as u64;
        numbers.entry(&run.series.job).or_insert(next);
    }
    let mut names: Vec<_> = numbers
        .iter()
        .map(|(job, number)| (*number, *job))
        .collect();
    names.sort_unstable();
    put_varint(out, names.len() as u64);
    for (_, job) in names {
        put_bytes(out, job.as_str().as_bytes());
    }
    put_varint(out, runs.len() as u64);
    for run in runs {
        put_varint(out, numbers[&run.series.job]);
        out.push(code(run.series.kind));
        put_varint(out, u64::from(run.series.trial.0));
        put_varint(out, run.first);
        put_varint(out, run.count);
    }
}

fn read_runs(reader: &mut Reader<'_>) -> Result<Vec<Run>, Malformed> {
    let names: usize = reader.number()?;
    let mut jobs = Vec::with_capacity(names.min(reader.len()));
    for _ in 0..names {
        jobs.push(JobId::from(reader.text()?));
    }
    let count: usize = reader.number()?;
    let mut runs = Vec::with_capacity(count.min(reader.len()));
    for _ in 0..count {
        let job: usize = reader.number()?;
        let job = jobs.get(job).ok_or(Malformed("a job without a name"))?;
        runs.push(Run {
            series: Series {
                job: job.clone(),
                kind: kind(reader.byte()?)?,
                trial: TrialId(reader.number()?),
            },
            first: reader.varint()?,
            count: reader.varint()?,
        });
        let run = &runs[runs.len() - 1];
        if run.first == 0 || run.first.checked_add(run.count).is_none() {
            return Err(Malformed("a run that starts or ends where none can"));
        }
    }
    Ok(runs)
}

/// A finished object and what its key will say.
#[derive(Debug, Clone)]
pub(in super::super) struct Packed {
    pub(in super::super) object: Bytes,
    pub(in super::super) meta: Meta,
}

/// Packs items into as few objects as their limits allow.
#[derive(Default)]
pub(in super::super) struct Packer {
    runs: Vec<Run>,
    names: usize,
    items: Vec<u8>,
    done: Vec<Packed>,
}

impl Packer {
    /// Takes in the next item of a series. Items of one series that come one after the other share a
    /// run.
    pub(in super::super) fn push(&mut self, series: &Series, sequence: u64, value: &[u8]) {
        let full = self.items.len() >= MAX_SEGMENT_BYTES || self.names >= MAX_NAME_BYTES;
        let follows = |run: &&mut Run| run.series == *series && run.end() == sequence;
        match self.runs.last_mut().filter(follows) {
            Some(run) if !full => run.count += 1,
            _ => {
                if full || self.runs.len() == MAX_RUNS {
                    self.close();
                }
                let named = self
                    .runs
                    .last()
                    .is_some_and(|run| run.series.job == series.job);
                if !named {
                    self.names += series.job.as_str().len();
                }
                self.runs.push(Run {
                    series: series.clone(),
                    first: sequence,
                    count: 1,
                });
            }
        }
        put_bytes(&mut self.items, value);
    }

    pub(in super::super) fn finish(mut self) -> Vec<Packed> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let runs = std::mem::take(&mut self.runs);
        let mut object = MAGIC.to_vec();
        object.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        put_runs(&mut object, &runs);
        object.append(&mut self.items);
        self.names = 0;
        self.done.push(Packed {
            meta: Meta {
                digest: *blake3::hash(&object).as_bytes(),
                bytes: object.len() as u64,
                runs,
                old: false,
            },
            object: object.into(),
        });
    }
}

/// An object that was read: its items by series and number.
#[derive(Debug)]
pub(in super::super) struct Content {
    object: Bytes,
    runs: Vec<(Run, Vec<Range<usize>>)>,
    by_series: BTreeMap<Series, Vec<usize>>,
}

impl Content {
    /// Takes an object apart. Its digest was compared before.
    pub(in super::super) fn parse(object: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&object);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Malformed("not a segment"));
        }
        if u32::from_le_bytes(reader.array()?) > FORMAT_VERSION {
            return Err(Malformed("a segment of a newer program"));
        }
        let runs = read_runs(&mut reader)?;
        let mut found = Vec::with_capacity(runs.len());
        let mut by_series: BTreeMap<Series, Vec<usize>> = BTreeMap::new();
        for run in runs {
            let mut ranges = Vec::new();
            for _ in 0..run.count {
                let item = reader.bytes()?.len();
                let end = object.len() - reader.len();
                ranges.push(end - item..end);
            }
            by_series
                .entry(run.series.clone())
                .or_default()
                .push(found.len());
            found.push((run, ranges));
        }
        if !reader.is_empty() {
            return Err(Malformed("bytes after its last item"));
        }
        Ok(Self {
            object,
            runs: found,
            by_series,
        })
    }

    /// Bytes of memory, roughly.
    pub(in super::super) fn weight(&self) -> usize {
        let ranges: usize = self.runs.iter().map(|(_, ranges)| ranges.len()).sum();
        self.object.len() + ranges * size_of::<Range<usize>>() + self.runs.len() * 128
    }

    pub(in super::super) fn item(&self, series: &Series, sequence: u64) -> Option<&[u8]> {
        let runs = self.by_series.get(series)?;
        let (run, ranges) = runs
            .iter()
            .map(|at| &self.runs[*at])
            .find(|(run, _)| (run.first..run.end()).contains(&sequence))?;
        let at = usize::try_from(sequence - run.first).ok()?;
        self.object.get(ranges.get(at)?.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId {
        term: 77,
        sequence: 3,
    };

    pub(super) fn series(job: &str, trial: u32, kind: SeriesKind) -> Series {
        Series {
            kind,
            job: JobId::from(job),
            trial: TrialId(trial),
        }
    }

    #[test]
    fn what_is_packed_is_found_again() {
        let mut packer = Packer::default();
        let a = series("a", 0, SeriesKind::Logs);
        let b = series("b", 7, SeriesKind::Points);
        for (series, sequence, value) in
            [(&a, 5, "five"), (&a, 6, ""), (&b, 1, "one"), (&a, 7, "7")]
        {
            packer.push(series, sequence, value.as_bytes());
        }
        let packed = packer.finish();
        let [packed] = &packed[..] else {
            panic!("{} objects", packed.len());
        };
        assert_eq!(packed.meta.runs.len(), 3);
        assert_eq!(
            Meta::decode(ID, &packed.meta.encode(ID)).unwrap(),
            packed.meta
        );
        let content = Content::parse(packed.object.clone()).unwrap();
        let item = |series, sequence| content.item(series, sequence);
        assert_eq!(item(&a, 5), Some(b"five".as_slice()));
        assert_eq!(item(&a, 6), Some(b"".as_slice()));
        assert_eq!(item(&a, 7), Some(b"7".as_slice()));
        assert_eq!(item(&b, 1), Some(b"one".as_slice()));
        assert_eq!(item(&a, 4), None);
        assert_eq!(item(&b, 2), None);
    }

    #[test]
    fn objects_and_keys_are_bounded() {
        let mut packer = Packer::default();
        let long = "x".repeat(200);
        for trial in 0..10_000 {
            let series = series(&format!("{long}-{}", trial / 10), trial, SeriesKind::Points);
            packer.push(&series, u64::from(trial) * 1_000_000 + 1, &[0; 1_000]);
        }
        let packed = packer.finish();
        let items: u64 = packed
            .iter()
            .flat_map(|p| &p.meta.runs)
            .map(|r| r.count)
            .sum();
        assert_eq!(items, 10_000);
        for packed in packed {
            assert!(packed.meta.encode(ID).len() <= 64 * 1024);
            assert!(packed.object.len() <= MAX_SEGMENT_BYTES + 128 * 1024);
        }
    }

    #[test]
    fn damaged_objects_and_keys_are_refused() {
        let mut packer = Packer::default();
        packer.push(&series("a", 0, SeriesKind::Logs), 1, b"line");
        let packed = packer.finish().remove(0);
        for cut in 0..packed.object.len() {
            assert!(Content::parse(packed.object.slice(..cut)).is_err(), "{cut}");
        }
        let key = packed.meta.encode(ID);
        for cut in 0..key.len() {
            assert!(Meta::decode(ID, &key[..cut]).is_err(), "{cut}");
        }
        for bit in 0..key.len() * 8 {
            let mut flipped = key.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(ID, &flipped).is_err(), "bit {bit}");
        }
        let other = SegmentId { term: 78, ..ID };
        assert!(Meta::decode(other, &key).is_err(), "another's name");
        // The first version had no checksum.
        let mut first = key[..key.len() - checksum::BYTES].to_vec();
        first[0] = 1;
        let old = Meta {
            old: true,
            ..packed.meta
        };
        assert_eq!(Meta::decode(ID, &first).unwrap(), old);
        let mut newer = packed.object.to_vec();
        newer[8] = 2;
        let error = Content::parse(newer.into()).unwrap_err();
        assert_eq!(error.to_string(), "a segment of a newer program");
        assert_eq!(SegmentId::parse("zz/1"), None);
        assert_eq!(SegmentId::parse(&ID.to_string()), Some(ID));
    }
}
