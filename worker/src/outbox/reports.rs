//! PURE: the reports of this process that the coordinator has not acknowledged.
//!
//! A report gets its sequence number when it is first handed out for sending, so that thinning those
//! that wait never leaves a gap. Handed-out ones are kept, in order, until acknowledged, and handed
//! out again on every new connection. Knows nothing of sockets, tasks or time.

use std::collections::VecDeque;

use prost::Message as _;
use trainyard_proto::MAX_MESSAGE_BYTES;
use trainyard_proto::v1::{Report, report::Body};

use crate::attempt::AttemptKey;

/// Reports handed out but not acknowledged: beyond it the rest waits.
const WINDOW: usize = 4 * trainyard_proto::MAX_REPORTS_PER_BATCH;

/// Bytes of all reports that are kept: 16,384 reports, as many as are kept by default, of 4 kB, which is
/// one with a hundred metrics.
const MAX_BYTES: usize = 64 << 20;
/// Bytes of the reports of one message, which has room for its frame and for one large report more.
const BATCH_BYTES: usize = MAX_MESSAGE_BYTES / 4;

/// What became of a pushed report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Kept; acknowledged once the buffer's acknowledged ticket has reached this number.
    Taken(u64),
    /// Left out: progress within an epoch while the buffer is full, or what is too much after a stop.
    Thinned,
    /// No room: try again after an acknowledgement.
    Full,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    bytes: usize,
    report: Report,
}

#[derive(Debug)]
pub(crate) struct ReportBuffer {
    capacity: usize,
    next_ticket: u64,
    next_sequence: u64,
    acknowledged_ticket: u64,
    /// Numbered, in order of their sequences.
    numbered: VecDeque<Entry>,
    /// How many of `numbered` were handed out on the present connection.
    handed_out: usize,
    waiting: VecDeque<Entry>,
    /// Of both.
    bytes: usize,
}

impl ReportBuffer {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            next_ticket: 1,
            next_sequence: 1,
            acknowledged_ticket: 0,
            numbered: VecDeque::new(),
            handed_out: 0,
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbered.len() + self.waiting.len()
    }

    /// Every report whose ticket is not above this one is acknowledged (or was left out).
    pub(crate) fn acknowledged_ticket(&self) -> u64 {
        self.acknowledged_ticket
    }

    /// Takes a report, where there is room for it; its `sequence` is set later.
    pub(crate) fn push(&mut self, report: Report) -> Pushed {
        let bytes = report.encoded_len();
        if !self.has_room(bytes) {
            self.thin();
        }
        if self.has_room(bytes) {
            self.take(report, bytes)
        } else if is_intermediate(&report) {
            Pushed::Thinned
        } else {
            Pushed::Full
        }
    }

    /// Takes a report whether or not there is room. How many such ones there are is the caller's to bound.
    pub(crate) fn push_beyond(&mut self, report: Report) -> Pushed {
        let bytes = report.encoded_len();
        self.take(report, bytes)
    }

    fn has_room(&self, bytes: usize) -> bool {
        // One that is larger than all room has to wait until it is alone.
        let fits = self.bytes + bytes <= MAX_BYTES || self.len() == 0;
        fits && self.len() < self.capacity
    }

    fn take(&mut self, report: Report, bytes: usize) -> Pushed {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.bytes += bytes;
        self.waiting.push_back(Entry {
            ticket,
            bytes,
            report,
        });
        Pushed::Taken(ticket)
    }

    /// Takes back what was never handed out. False: it was, and may be known.
    pub(crate) fn withdraw(&mut self, ticket: u64) -> bool {
        let at = self
            .waiting
            .binary_search_by_key(&ticket, |entry| entry.ticket);
        let entry = at.ok().and_then(|at| self.waiting.remove(at));
        if let Some(entry) = &entry {
            self.bytes -= entry.bytes;
        }
        entry.is_some()
    }

    /// Keeps those of the waiting ones that `stays`.
    fn retain(&mut self, mut stays: impl FnMut(&Report) -> bool) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|entry| {
            let stays = stays(&entry.report);
            if !stays {
                *bytes -= entry.bytes;
            }
            stays
        });
    }

    /// Leaves out every second waiting report of progress within an epoch.
    fn thin(&mut self) {
        let mut leave_out = false;
        self.retain(|report| {
            if !is_intermediate(report) {
                return true;
            }
            leave_out = !leave_out;
            !leave_out
        });
    }

    /// Whether [`Self::next_batch`] has something to hand out.
    pub(crate) fn has_next(&self, held: impl Fn(&AttemptKey) -> bool) -> bool {
        let room = self.numbered.len() < WINDOW;
        let next = match self.numbered.get(self.handed_out) {
            Some(again) => Some(again),
            None => self.waiting.front().filter(|_| room),
        };
        next.is_some_and(|entry| !is_held(&entry.report, held))
    }

    /// Reports that were not handed out on this connection.
    pub(crate) fn unsent(&self) -> usize {
        self.len() - self.handed_out
    }

    /// The next reports to send on this connection, at most `limit`, in order of their sequences. They
    /// end before that of the end of an attempt which is `held`.
    pub(crate) fn next_batch(
        &mut self,
        limit: usize,
        held: impl Fn(&AttemptKey) -> bool,
    ) -> Vec<Report> {
        let wanted = (self.handed_out + limit).min(WINDOW);
        while self.numbered.len() < wanted
            && let Some(mut entry) = self.waiting.pop_front()
        {
            entry.report.sequence = self.next_sequence;
            self.next_sequence += 1;
            self.numbered.push_back(entry);
        }
        let mut bytes = 0;
        let mut fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += entry.bytes;
            first || bytes <= BATCH_BYTES
        };
        let batch: Vec<Report> = self
            .numbered
            .iter()
            .skip(self.handed_out)
            .take(limit)
            .take_while(|entry| !is_held(&entry.report, &held) && fits(entry))
            .map(|entry| entry.report.clone())
            .collect();
        self.handed_out += batch.len();
        batch
    }

    /// A new connection: everything that was not acknowledged is handed out again.
    pub(crate) fn reconnected(&mut self) {
        self.handed_out = 0;
    }

    /// Forgets the reports up to a sequence. Numbers never handed out are ignored.
    pub(crate) fn acknowledge(&mut self, sequence: u64) {
        while let Some(entry) = self.numbered.front()
            && entry.report.sequence <= sequence
        {
            self.acknowledged_ticket = entry.ticket;
            self.bytes -= entry.bytes;
            self.numbered.pop_front();
            self.handed_out = self.handed_out.saturating_sub(1);
        }
    }

    /// Leaves out what waits of an attempt that is no longer this worker's. What has a number stays:
    /// the coordinator knows it as stale, and a gap would look like a loss.
    pub(crate) fn abandon(&mut self, key: &AttemptKey) {
        self.retain(|report| AttemptKey::of_report(report) != *key);
    }

    /// Attempts that have ended without the coordinator's having acknowledged it.
    pub(crate) fn ended(&self) -> Vec<AttemptKey> {
        self.numbered
            .iter()
            .chain(&self.waiting)
            .filter(|entry| is_end(&entry.report))
            .map(|entry| AttemptKey::of_report(&entry.report))
            .collect()
    }
}

fn is_end(report: &Report) -> bool {
    matches!(report.body, Some(Body::Ended(_)))
}

/// The end of an attempt that is not to be handed out yet.
fn is_held(report: &Report, held: impl Fn(&AttemptKey) -> bool) -> bool {
    is_end(report) && held(&AttemptKey::of_report(report))
}

fn is_intermediate(report: &Report) -> bool {
    matches!(&report.body, Some(Body::Progress(progress)) if !progress.end_of_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_proto::v1::{Ended, Progress, Started};

    const NONE: fn(&AttemptKey) -> bool = |_| false;

    fn key(trial: u32) -> AttemptKey {
        AttemptKey::new("job-1", trial, 0, 1, 0)
    }

    fn report(trial: u32, body: Body) -> Report {
        key(trial).report(0, body)
    }

    fn progress(step: u64, end_of_epoch: bool) -> Report {
        report(
            0,
            Body::Progress(Progress {
                step,
                end_of_epoch,
                ..Progress::default()
            }),
        )
    }

    fn sequences(batch: &[Report]) -> Vec<u64> {
        batch.iter().map(|report| report.sequence).collect()
    }

    fn steps(batch: &[Report]) -> Vec<u64> {
        batch
            .iter()
            .filter_map(|report| match &report.body {
                Some(Body::Progress(progress)) => Some(progress.step),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn replays_what_was_not_acknowledged_with_the_same_numbers() {
        let mut buffer = ReportBuffer::new(100);
        (0..5).for_each(|step| {
            assert!(matches!(
                buffer.push(progress(step, true)),
                Pushed::Taken(_)
            ))
        });
        assert_eq!(sequences(&buffer.next_batch(3, NONE)), [1, 2, 3]);
        assert_eq!(sequences(&buffer.next_batch(3, NONE)), [4, 5]);
        assert!(!buffer.has_next(NONE));
        buffer.acknowledge(2);
        assert_eq!(buffer.acknowledged_ticket(), 2);
        buffer.reconnected();
        buffer.push(progress(5, true));
        let batch = buffer.next_batch(10, NONE);
        assert_eq!(sequences(&batch), [3, 4, 5, 6]);
        assert_eq!(steps(&batch), [2, 3, 4, 5]);
        buffer.acknowledge(6);
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn acknowledging_the_future_or_the_past_harms_nothing() {
        let mut buffer = ReportBuffer::new(100);
        buffer.push(progress(1, true));
        buffer.acknowledge(99);
        assert_eq!(buffer.len(), 1);
        buffer.next_batch(1, NONE);
        buffer.acknowledge(0);
        assert_eq!(buffer.len(), 1);
        buffer.acknowledge(1);
        buffer.acknowledge(1);
        assert_eq!((buffer.len(), buffer.acknowledged_ticket()), (0, 1));
    }

    #[test]
    fn only_progress_within_epochs_is_thinned_and_no_number_is_skipped() {
        let mut buffer = ReportBuffer::new(8);
        for step in 0..40 {
            let end = step % 10 == 9;
            let pushed = buffer.push(progress(step, end));
            assert!(!end || matches!(pushed, Pushed::Taken(_)), "{step}");
        }
        let batch = buffer.next_batch(100, NONE);
        let kept = steps(&batch);
        assert!(kept.is_sorted() && kept.len() <= 8, "{kept:?}");
        for end in [9, 19, 29, 39] {
            assert!(kept.contains(&end), "{kept:?}");
        }
        let numbers: Vec<u64> = (1..=batch.len() as u64).collect();
        assert_eq!(sequences(&batch), numbers);
    }

    #[test]
    fn what_must_be_told_waits_when_nothing_can_be_thinned() {
        let mut buffer = ReportBuffer::new(2);
        buffer.push(progress(1, true));
        buffer.push(report(0, Body::Started(Started::default())));
        assert_eq!(buffer.push(progress(2, true)), Pushed::Full);
        assert_eq!(buffer.push(progress(2, false)), Pushed::Thinned);
        buffer.next_batch(1, NONE);
        buffer.acknowledge(1);
        assert!(matches!(buffer.push(progress(2, true)), Pushed::Taken(_)));
    }

    /// With an error of so many bytes.
    fn end(trial: u32, bytes: usize) -> Report {
        let error = "x".repeat(bytes);
        report(
            trial,
            Body::Ended(Ended {
                error,
                ..Ended::default()
            }),
        )
    }

    #[test]
    fn reports_are_bounded_in_bytes() {
        let mut buffer = ReportBuffer::new(1 << 20);
        let mut taken = 0;
        while let Pushed::Taken(_) = buffer.push(end(taken, 1 << 20)) {
            taken += 1;
        }
        assert_eq!(taken as usize, MAX_BYTES / (1 << 20) - 1);
        assert!(matches!(
            buffer.push_beyond(end(taken, 1 << 20)),
            Pushed::Taken(_)
        ));
        // A message holds no more than its own bound, of which a report of its own is part.
        let batch = buffer.next_batch(256, NONE);
        assert_eq!(batch.len(), BATCH_BYTES / (1 << 20) - 1);
        buffer.acknowledge(3);
        buffer.abandon(&key(9));
        assert!(matches!(buffer.push(end(0, 1 << 20)), Pushed::Taken(_)));
        while buffer.len() > 0 {
            let last = buffer.next_batch(1, NONE).last().map_or(0, |r| r.sequence);
            buffer.acknowledge(last);
        }
        assert_eq!(buffer.bytes, 0);
        // One alone is never too large.
        assert!(matches!(buffer.push(end(0, MAX_BYTES)), Pushed::Taken(_)));
        assert_eq!(buffer.next_batch(256, NONE).len(), 1);
    }

    #[test]
    fn what_was_never_handed_out_can_be_taken_back() {
        let mut buffer = ReportBuffer::new(100);
        let tickets: Vec<u64> = (0..4)
            .map(|step| match buffer.push(progress(step, true)) {
                Pushed::Taken(ticket) => ticket,
                other => panic!("{other:?}"),
            })
            .collect();
        buffer.next_batch(1, NONE);
        assert!(!buffer.withdraw(tickets[0]), "handed out");
        buffer.reconnected();
        assert!(!buffer.withdraw(tickets[0]), "may have been heard");
        assert!(buffer.withdraw(tickets[2]));
        assert!(!buffer.withdraw(tickets[2]));
        let batch = buffer.next_batch(100, NONE);
        assert_eq!(steps(&batch), [0, 1, 3]);
        assert_eq!(sequences(&batch), [1, 2, 3]);
    }

    #[test]
    fn handed_out_reports_are_bounded() {
        let mut buffer = ReportBuffer::new(4 * WINDOW);
        (0..2 * WINDOW as u64).for_each(|step| {
            buffer.push(progress(step, true));
        });
        let mut out = 0;
        while buffer.has_next(NONE) {
            out += buffer.next_batch(100, NONE).len();
        }
        assert_eq!(out, WINDOW);
        buffer.acknowledge(10);
        assert_eq!(buffer.next_batch(100, NONE).len(), 10);
    }

    #[test]
    fn abandoned_attempts_say_nothing_more() {
        let mut buffer = ReportBuffer::new(100);
        buffer.push(report(1, Body::Started(Started::default())));
        buffer.next_batch(1, NONE);
        buffer.push(report(1, Body::Ended(Ended::default())));
        buffer.push(report(2, Body::Ended(Ended::default())));
        assert_eq!(buffer.ended(), [key(1), key(2)]);
        buffer.abandon(&key(1));
        assert_eq!(buffer.ended(), [key(2)]);
        let batch = buffer.next_batch(10, NONE);
        assert_eq!(sequences(&batch), [2]);
        assert_eq!(batch[0].trial_id, 2);
    }
}
