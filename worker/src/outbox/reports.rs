//! PURE: the reports of this process that the coordinator has not acknowledged.
//!
//! A report gets its sequence number when it is first handed out for sending, so that thinning those
//! that wait never leaves a gap. Handed-out ones are kept, in order, until acknowledged, and handed
//! out again on every new connection. Knows nothing of sockets, tasks or time.

use std::collections::VecDeque;

use trainyard_proto::v1::{Report, report::Body};

use crate::attempt::AttemptKey;

/// Reports handed out but not acknowledged: beyond it the rest waits.
const WINDOW: usize = 4 * trainyard_proto::MAX_REPORTS_PER_BATCH;

/// What became of a pushed report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Kept; acknowledged once the buffer's acknowledged ticket has reached this number.
    Taken(u64),
    /// Progress within an epoch that was left out, because the buffer is full.
    Thinned,
    /// No room: try again after an acknowledgement.
    Full,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
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
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbered.len() + self.waiting.len()
    }

    /// Every report whose ticket is not above this one is acknowledged (or was left out).
    pub(crate) fn acknowledged_ticket(&self) -> u64 {
        self.acknowledged_ticket
    }

    /// Takes a report; its `sequence` is set later.
    pub(crate) fn push(&mut self, report: Report) -> Pushed {
        if self.len() >= self.capacity {
            self.thin();
        }
        if self.len() >= self.capacity {
            return if is_intermediate(&report) {
                Pushed::Thinned
            } else {
                Pushed::Full
            };
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(Entry { ticket, report });
        Pushed::Taken(ticket)
    }

    /// Leaves out every second waiting report of progress within an epoch.
    fn thin(&mut self) {
        let mut leave_out = false;
        self.waiting.retain(|entry| {
            if !is_intermediate(&entry.report) {
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
        let batch: Vec<Report> = self
            .numbered
            .iter()
            .skip(self.handed_out)
            .take(limit)
            .take_while(|entry| !is_held(&entry.report, &held))
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
            self.numbered.pop_front();
            self.handed_out = self.handed_out.saturating_sub(1);
        }
    }

    /// Leaves out what waits of an attempt that is no longer this worker's. What has a number stays:
    /// the coordinator knows it as stale, and a gap would look like a loss.
    pub(crate) fn abandon(&mut self, key: &AttemptKey) {
        self.waiting
            .retain(|entry| AttemptKey::of_report(&entry.report) != *key);
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
