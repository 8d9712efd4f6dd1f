//! A worker's reports that are not acknowledged: numbered when first handed out, kept in order, handed
//! out again on every new connection. The model of the agent's report buffer.

use std::collections::VecDeque;

use trainyard_coordinator::cluster::api::{Report, ReportBody};
use trainyard_coordinator::cluster::model::RankRef;

/// Reports of one message, as on the wire.
const BATCH: usize = 256;

/// Reports that are held; and in a world of small queues.
const HELD: usize = 1_024;
const TIGHT: usize = 4;

/// Reports beyond that of each slot: a full queue holds up the next epoch, not that an attempt begins or ends.
const BESIDE: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    next_sequence: u64,
    /// Not acknowledged; those with a sequence first.
    reports: VecDeque<Report>,
    numbered: usize,
    handed_out: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, rank: RankRef, body: ReportBody) {
        self.reports.push_back(Report {
            sequence: 0,
            rank,
            time_ms: 0,
            body,
        });
    }

    /// The next reports to send on this connection; they end before that of the end of a rank which is held.
    pub(super) fn next_batch(&mut self, held: impl Fn(&RankRef) -> bool) -> Vec<Report> {
        let upto = (self.handed_out + BATCH).min(self.reports.len());
        while self.numbered < upto {
            self.next_sequence += 1;
            self.reports[self.numbered].sequence = self.next_sequence;
            self.numbered += 1;
        }
        let next = self.reports.range(self.handed_out..upto);
        let next = next.take_while(|report| !ends(report) || !held(&report.rank));
        let batch: Vec<Report> = next.cloned().collect();
        self.handed_out += batch.len();
        batch
    }

    pub(super) fn reconnected(&mut self) {
        self.handed_out = 0;
    }

    /// Takes out the reports up to a sequence.
    pub(super) fn acknowledge(&mut self, sequence: u64) -> Vec<Report> {
        let mut durable = Vec::new();
        while self.numbered > 0 && self.reports[0].sequence <= sequence {
            durable.extend(self.reports.pop_front());
            self.numbered -= 1;
            self.handed_out = self.handed_out.saturating_sub(1);
        }
        durable
    }

    /// Leaves out what has no number yet of an attempt that is no longer this worker's.
    pub(super) fn abandon(&mut self, rank: &RankRef) {
        let mut at = 0;
        let numbered = self.numbered;
        self.reports.retain(|report| {
            at += 1;
            at <= numbered || report.rank != *rank
        });
    }

    /// Attempts whose end is not acknowledged.
    pub(super) fn ended(&self) -> impl Iterator<Item = &RankRef> {
        let ended = self.reports.iter().filter(|report| ends(report));
        ended.map(|report| &report.rank)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Whether a trainer has to wait before it tells more.
    pub(super) fn is_full(&self, tight: bool) -> bool {
        self.reports.len() >= if tight { TIGHT } else { HELD }
    }

    /// Whether more wait than a worker of so many slots may keep, whose trainers wait while it is full.
    pub(super) fn overflows(&self, tight: bool, slots: usize) -> bool {
        self.reports.len() > if tight { TIGHT } else { HELD } + BESIDE * slots
    }
}

/// Whether it is a rank's last one.
pub(super) fn ends(report: &Report) -> bool {
    matches!(report.body, ReportBody::Ended { .. })
}
