//! Which object holds which items, in memory, and which items count. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use trainyard_common::ids::JobId;

use super::super::super::Series;
use super::format::{Meta, Run, SegmentId};

/// An object smaller than this is worth joining with others.
const SMALL_BYTES: u64 = 1024 * 1024;

/// An object with more runs than this is not small: joining gains little.
const SMALL_RUNS: usize = 1_024;

/// All objects that count.
#[derive(Debug, Default)]
pub(in super::super) struct Index {
    segments: BTreeMap<SegmentId, Arc<Meta>>,
    series: BTreeMap<Series, Extent>,
}

/// A series: its kept pieces by number, and the number of its next item.
#[derive(Debug, Default)]
struct Extent {
    next: u64,
    pieces: VecDeque<Piece>,
}

/// Consecutive items and the object that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Piece {
    pub(in super::super) first: u64,
    /// The number after the last.
    pub(in super::super) end: u64,
    pub(in super::super) segment: SegmentId,
}

/// The lowest number that still counts in a series whose next is `next`: the limit's worth of items
/// remains. So numbers that are dropped need no record of their own.
pub(in super::super) fn lowest(series: &Series, next: u64) -> u64 {
    next.saturating_sub(series.kind.limit()).max(1)
}

impl Index {
    /// The number that the next item of `series` gets.
    pub(in super::super) fn next(&self, series: &Series) -> u64 {
        self.series.get(series).map_or(1, |extent| extent.next)
    }

    /// The lowest number that counts.
    pub(in super::super) fn lowest(&self, series: &Series) -> u64 {
        lowest(series, self.next(series))
    }

    pub(in super::super) fn get(&self, id: SegmentId) -> Option<&Arc<Meta>> {
        self.segments.get(&id)
    }

    #[cfg(test)]
    pub(in super::super) fn ids(&self) -> std::collections::BTreeSet<SegmentId> {
        self.segments.keys().copied().collect()
    }

    /// From now on an object counts.
    pub(in super::super) fn insert(&mut self, id: SegmentId, meta: Arc<Meta>) {
        for run in &meta.runs {
            let extent = self.series.entry(run.series.clone()).or_default();
            extent.insert(id, run);
            extent.drop_below(lowest(&run.series, extent.next));
        }
        self.segments.insert(id, meta);
    }

    /// An object counts no more; what it held is held by others, or gone.
    pub(in super::super) fn remove(&mut self, id: SegmentId) {
        let Some(meta) = self.segments.remove(&id) else {
            return;
        };
        for run in &meta.runs {
            if let Some(extent) = self.series.get_mut(&run.series) {
                extent.pieces.retain(|piece| piece.segment != id);
            }
        }
    }

    /// Where the items after `after` lie, at most `limit` of them, in order.
    pub(in super::super) fn find(&self, series: &Series, after: u64, limit: usize) -> Vec<Piece> {
        let Some(extent) = self.series.get(series) else {
            return Vec::new();
        };
        let mut from = lowest(series, extent.next).max(after.saturating_add(1));
        let mut left = limit as u64;
        let mut found = Vec::new();
        let start = extent.pieces.partition_point(|piece| piece.end <= from);
        for piece in extent.pieces.iter().skip(start) {
            if left == 0 {
                break;
            }
            let first = piece.first.max(from);
            let end = piece.end.min(first.saturating_add(left));
            left -= end - first;
            from = end;
            found.push(Piece {
                first,
                end,
                segment: piece.segment,
            });
        }
        found
    }

    /// The oldest small objects, at most `count` of together at most `bytes`.
    pub(in super::super) fn small(&self, count: usize, bytes: u64) -> Vec<SegmentId> {
        let mut left = bytes;
        let small = self
            .segments
            .iter()
            .filter(|(_, meta)| meta.bytes < SMALL_BYTES && meta.runs.len() < SMALL_RUNS);
        let fit = small.take_while(|(_, meta)| match left.checked_sub(meta.bytes) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        fit.map(|(id, _)| *id).take(count).collect()
    }

    /// Objects that may hold more than is said of them, at most `count` of together at most `bytes`, but
    /// one at least if there is any.
    pub(in super::super) fn old(&self, count: usize, bytes: u64) -> Vec<SegmentId> {
        let mut sum = 0;
        let old = self.segments.iter().filter(|(_, meta)| meta.old);
        let fit = old.take_while(|(_, meta)| {
            let first = sum == 0;
            sum += meta.bytes;
            first || sum <= bytes
        });
        fit.map(|(id, _)| *id).take(count).collect()
    }

    /// From now on these count as if no more were in them.
    pub(in super::super) fn keep_old(&mut self, ids: &[SegmentId]) {
        for id in ids {
            if let Some(meta) = self.segments.get_mut(id) {
                Arc::make_mut(meta).old = false;
            }
        }
    }

    /// Objects all of whose items are dropped, at most `count`.
    pub(in super::super) fn dead(&self, count: usize) -> Vec<SegmentId> {
        let dropped = |run: &Run| {
            let extent = self.series.get(&run.series);
            extent.is_none_or(|extent| run.end() <= lowest(&run.series, extent.next))
        };
        let dead = self
            .segments
            .iter()
            .filter(|(_, meta)| meta.runs.iter().all(dropped));
        dead.map(|(id, _)| *id).take(count).collect()
    }

    /// Objects that hold items of `job`, at most `count`.
    pub(in super::super) fn of_job(&self, job: &JobId, count: usize) -> Vec<SegmentId> {
        let holds = |meta: &Meta| meta.runs.iter().any(|run| run.series.job == *job);
        let found = self.segments.iter().filter(|(_, meta)| holds(meta));
        found.map(|(id, _)| *id).take(count).collect()
    }

    /// Forgets the numbering of a job whose objects are gone: its name is never used again.
    pub(in super::super) fn forget(&mut self, job: &JobId) {
        self.series.retain(|series, _| series.job != *job);
    }
}

impl Extent {
    fn insert(&mut self, segment: SegmentId, run: &Run) {
        self.next = self.next.max(run.end());
        let piece = Piece {
            first: run.first,
            end: run.end(),
            segment,
        };
        let at = self
            .pieces
            .partition_point(|known| known.first < piece.first);
        self.pieces.insert(at, piece);
    }

    fn drop_below(&mut self, lowest: u64) {
        while self.pieces.front().is_some_and(|piece| piece.end <= lowest) {
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use trainyard_common::ids::TrialId;

    use super::super::super::super::SeriesKind;
    use super::*;

    fn id(sequence: u64) -> SegmentId {
        SegmentId { term: 1, sequence }
    }

    fn logs(job: &str) -> Series {
        Series {
            kind: SeriesKind::Logs,
            job: JobId::from(job),
            trial: TrialId(0),
        }
    }

    fn meta(runs: &[(&Series, u64, u64)]) -> Arc<Meta> {
        let runs = runs.iter().map(|(series, first, count)| Run {
            series: (*series).clone(),
            first: *first,
            count: *count,
        });
        Arc::new(Meta {
            digest: [0; 32],
            bytes: 100,
            runs: runs.collect(),
            old: false,
        })
    }

    fn ranges(pieces: &[Piece]) -> Vec<(u64, u64, u64)> {
        let range = |piece: &Piece| (piece.first, piece.end, piece.segment.sequence);
        pieces.iter().map(range).collect()
    }

    #[test]
    fn items_are_found_whatever_the_order_of_objects() {
        let (a, b) = (logs("a"), logs("b"));
        let mut index = Index::default();
        assert_eq!(index.next(&a), 1);
        index.insert(id(2), meta(&[(&a, 11, 5)]));
        index.insert(id(1), meta(&[(&a, 1, 10), (&b, 1, 3)]));
        assert_eq!((index.next(&a), index.next(&b)), (16, 4));
        assert_eq!(ranges(&index.find(&a, 0, 99)), [(1, 11, 1), (11, 16, 2)]);
        assert_eq!(ranges(&index.find(&a, 7, 5)), [(8, 11, 1), (11, 13, 2)]);
        assert_eq!(ranges(&index.find(&a, 15, 5)), []);
        assert_eq!(ranges(&index.find(&a, u64::MAX, 5)), []);
        assert_eq!(ranges(&index.find(&a, 0, 0)), []);
        // Joined into one object.
        index.insert(id(3), meta(&[(&a, 1, 15), (&b, 1, 3)]));
        index.remove(id(1));
        index.remove(id(2));
        assert_eq!(ranges(&index.find(&a, 7, 5)), [(8, 13, 3)]);
        assert_eq!(index.of_job(&JobId::from("b"), 9), [id(3)]);
        assert_eq!(index.next(&a), 16);
    }

    #[test]
    fn what_is_beyond_the_limit_is_dropped_and_its_objects_are_dead() {
        let (a, limit) = (logs("a"), SeriesKind::Logs.limit());
        let mut index = Index::default();
        index.insert(id(1), meta(&[(&a, 1, 10)]));
        index.insert(id(2), meta(&[(&a, 11, limit)]));
        assert_eq!(index.lowest(&a), 11);
        assert_eq!(index.find(&a, 0, 1)[0].first, 11);
        assert_eq!(index.dead(9), [id(1)]);
        index.insert(id(3), meta(&[(&a, 11 + limit, 1)]));
        assert_eq!(index.find(&a, 0, 1)[0].first, 12);
        assert_eq!(index.dead(9), [id(1)]);
    }

    #[test]
    fn small_objects_are_offered_within_bounds() {
        let a = logs("a");
        let mut index = Index::default();
        for number in 1..=9 {
            index.insert(id(number), meta(&[(&a, number, 1)]));
        }
        assert_eq!(index.small(3, 10_000), [id(1), id(2), id(3)]);
        assert_eq!(index.small(9, 250), [id(1), id(2)]);
        index.forget(&JobId::from("a"));
        assert_eq!(index.dead(99).len(), 9);
    }
}
