//! The newest log lines of jobs that are followed: read once, told to everybody who follows.
//!
//! Whoever comes first with the news of a change reads what is new; the others find it here. What is kept is
//! bounded by bytes, so that a follower may be too far behind for it and has to read for itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1::LogLine;

use super::found;
use super::status::ApiError;
use crate::driver::DriverHandle;
use crate::driver::series::decode_line;
use crate::store::SeriesKind;

/// Lines that are read from the store at a time, by all followers together and by one for itself. One that
/// reads slowly holds that many; where lines are long it reads fewer.
const MAX_READ: usize = 256;
const MIN_READ: usize = 8;
const READ_BYTES: usize = 128 * 1024;

/// Bytes that are kept of one job while few are followed, while very many are, and of all together in
/// between.
const KEPT_OF_ONE: usize = 1024 * 1024;
const KEPT_AT_LEAST: usize = 64 * 1024;
const KEPT_OF_ALL: usize = 64 * 1024 * 1024;

/// The jobs that are followed.
#[derive(Debug, Default)]
pub(super) struct Tails {
    jobs: Mutex<HashMap<JobId, Weak<Tail>>>,
    count: Arc<AtomicUsize>,
}

impl Tails {
    /// What followers of a job share, for as long as there are any.
    pub(super) fn of(&self, driver: &DriverHandle, job: &JobId) -> Arc<Tail> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = jobs.get(job).and_then(Weak::upgrade)
            // Of another leadership nothing is used.
            && known.driver.term() == driver.term()
        {
            return known;
        }
        jobs.retain(|_, tail| tail.strong_count() > 0);
        self.count.fetch_add(1, Ordering::Relaxed);
        let tail = Arc::new(Tail {
            driver: driver.clone(),
            job: job.clone(),
            kept: tokio::sync::Mutex::new(Kept::new(driver, job)),
            count: Arc::clone(&self.count),
        });
        jobs.insert(job.clone(), Arc::downgrade(&tail));
        tail
    }
}

/// The newest lines of one job.
#[derive(Debug)]
pub(super) struct Tail {
    driver: DriverHandle,
    job: JobId,
    kept: tokio::sync::Mutex<Kept>,
    /// How many there are.
    count: Arc<AtomicUsize>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Kept {
    lines: Lines,
    trials: BTreeMap<TrialId, Recent>,
    /// Whose line is the oldest, the next, and so on.
    order: VecDeque<TrialId>,
    bytes: usize,
    /// Whether a trial, or the job, has ended, and the newest change when that was read.
    ended: BTreeMap<Option<TrialId>, (u64, bool)>,
}

/// The newest lines of one trial: all that are stored after `before`, as far as was read.
#[derive(Debug)]
struct Recent {
    before: u64,
    lines: VecDeque<LogLine>,
    last: u64,
    /// The newest change when everything was read.
    whole_at: u64,
}

impl Tail {
    /// Lines of a trial after a position; none where there are none that were stored with or before
    /// `change`. `None`: what is kept begins later.
    pub(super) async fn after(
        &self,
        trial: TrialId,
        after: u64,
        change: u64,
    ) -> Result<Option<Arc<[LogLine]>>, ApiError> {
        let mut kept = self.kept.lock().await;
        let kept = &mut *kept;
        let recent = kept.trials.entry(trial).or_insert_with(|| Recent {
            before: after,
            lines: VecDeque::new(),
            last: after,
            whole_at: 0,
        });
        if after < recent.before {
            return Ok(None);
        }
        while after >= recent.last && recent.whole_at < change {
            let newest = self.driver.newest_change();
            let (lines, whole) = kept.lines.read(trial, recent.last, MAX_READ).await?;
            if whole {
                // The news of the change came before this read began.
                recent.whole_at = newest.max(change);
            }
            for line in lines {
                recent.last = line.sequence;
                kept.bytes += bytes(&line);
                kept.order.push_back(trial);
                recent.lines.push_back(line);
            }
        }
        let known = recent.lines.iter();
        let found: Arc<[LogLine]> = known
            .skip_while(|line| line.sequence <= after)
            .cloned()
            .collect();
        kept.forget_beyond(self.bound());
        Ok(Some(found))
    }

    /// Whether the trial, or the job, has ended; as of `change` or later.
    pub(super) async fn ended(
        &self,
        trial: Option<TrialId>,
        change: u64,
    ) -> Result<bool, ApiError> {
        let mut kept = self.kept.lock().await;
        if let Some((read, ended)) = kept.ended.get(&trial)
            && *read >= change
        {
            return Ok(*ended);
        }
        let newest = self.driver.newest_change();
        let ended = match trial {
            Some(trial) => found::trial(&self.driver, &self.job, trial)
                .await?
                .state
                .ended(),
            None => found::job(&self.driver, &self.job).await?.state.ended(),
        };
        kept.ended.insert(trial, (newest, ended));
        Ok(ended)
    }

    fn bound(&self) -> usize {
        let share = KEPT_OF_ALL / self.count.load(Ordering::Relaxed).max(1);
        share.clamp(KEPT_AT_LEAST, KEPT_OF_ONE)
    }
}

impl Kept {
    fn new(driver: &DriverHandle, job: &JobId) -> Self {
        Self {
            lines: Lines::new(driver, job),
            trials: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            ended: BTreeMap::new(),
        }
    }

    fn forget_beyond(&mut self, bound: usize) {
        while self.bytes > bound {
            let Some(trial) = self.order.pop_front() else {
                return;
            };
            let recent = self.trials.get_mut(&trial);
            let line = recent.and_then(|recent| {
                let line = recent.lines.pop_front()?;
                recent.before = line.sequence;
                Some(line)
            });
            self.bytes -= line.map_or(0, |line| bytes(&line));
        }
    }
}

/// What a line takes, roughly.
fn bytes(line: &LogLine) -> usize {
    128 + line.level.len() + line.text.len()
}

/// Reads lines of a job's trials from the store.
#[derive(Debug)]
pub(super) struct Lines {
    job: JobId,
    reader: found::Reader,
    /// How many are read at a time.
    most: usize,
}

impl Lines {
    pub(super) fn new(driver: &DriverHandle, job: &JobId) -> Self {
        Self {
            job: job.clone(),
            reader: found::Reader::new(driver, job),
            most: MIN_READ,
        }
    }

    /// The next lines of a trial after a position; `None` where there are none.
    pub(super) async fn after(
        &mut self,
        trial: TrialId,
        after: u64,
    ) -> Result<Option<Vec<LogLine>>, ApiError> {
        let (lines, _) = self.read(trial, after, self.most).await?;
        if lines.is_empty() {
            return Ok(None);
        }
        let each = lines.iter().map(bytes).sum::<usize>() / lines.len();
        let fit = (READ_BYTES / each.max(1)).clamp(MIN_READ, MAX_READ);
        // Lines to come may be longer than those before.
        self.most = fit.min(2 * self.most);
        Ok(Some(lines))
    }

    /// At most so many lines, and whether these are all.
    async fn read(
        &mut self,
        trial: TrialId,
        after: u64,
        most: usize,
    ) -> Result<(Vec<LogLine>, bool), ApiError> {
        let kind = SeriesKind::Logs;
        let items = self.reader.items(kind, trial, after, most).await?;
        let whole = items.len() < most;
        let lines = items.iter().map(|item| {
            let line = decode_line(item)?;
            Ok(LogLine {
                sequence: item.sequence,
                trial_id: trial.0,
                attempt: line.attempt,
                rank: line.rank,
                time_ms: line.time_ms,
                level: line.level,
                text: line.text,
            })
        });
        let lines = lines.collect::<Result<_, _>>();
        let lines = lines.map_err(|error| ApiError::Series {
            job: self.job.clone(),
            trial,
            error,
        })?;
        Ok((lines, whole))
    }
}
