//! `StreamLogs`: the stored lines, then new ones as they are stored; no gap, no line twice.
//!
//! Every line comes from the store by its number. News only say that it is worth looking again, so
//! neither a slow reader nor a lost notice can lose a line.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::Stream;
use tokio::time::Instant;
use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1::{self, LogLine};

use super::status::ApiError;
use super::tail::{Lines, Tails};
use super::watch::stopped;
use super::{convert, found};
use crate::clients::Held;
use crate::driver::{Changes, DriverHandle, Watcher};

/// Positions that a request may name: the trials of the largest searches.
const MAX_POSITIONS: usize = 100_000;

/// A follower looks at most this often: many lines then come in one read.
const PAUSE: Duration = Duration::from_millis(20);

/// Which lines a client wants.
#[derive(Debug, Clone)]
pub(super) struct Query {
    job: JobId,
    /// All trials when unset.
    trial: Option<TrialId>,
    /// Go on until the trials have ended.
    follow: bool,
    /// Only lines numbered above this, in each trial that `positions` does not name.
    after: u64,
    positions: BTreeMap<TrialId, u64>,
}

impl Query {
    pub(super) fn read(request: v1::StreamLogsRequest) -> Result<Self, ApiError> {
        let given = request.positions.len();
        if given > MAX_POSITIONS {
            return Err(ApiError::field(
                "positions",
                format!("{given} positions"),
                format!("at most {MAX_POSITIONS}"),
            ));
        }
        let positions = request.positions.into_iter();
        Ok(Self {
            job: convert::job_id(&request.job_id)?,
            trial: request.trial_id.map(TrialId),
            follow: request.follow,
            after: request.after_sequence,
            positions: positions
                .map(|position| (TrialId(position.trial_id), position.after_sequence))
                .collect(),
        })
    }

    /// Where a trial's lines begin.
    fn begin(&self, trial: TrialId) -> u64 {
        self.positions.get(&trial).copied().unwrap_or(self.after)
    }

    /// The trials among the news that are wanted.
    fn wanted(&self, mut logs: BTreeMap<TrialId, u64>) -> BTreeMap<TrialId, u64> {
        logs.retain(|trial, _| self.trial.is_none_or(|only| only == *trial));
        logs
    }
}

/// The stream, or why there is none. `held` counts it.
pub(super) async fn open(
    driver: DriverHandle,
    tails: &Tails,
    query: Query,
    held: Held,
) -> Result<impl Stream<Item = Result<LogLine, Status>> + use<>, ApiError> {
    // Before anything is read, so that no line falls between.
    let watcher = driver.watch(&query.job);
    let scope = Scope::read(&driver, &query).await?;
    let tail = tails.of(&driver, &query.job);
    Ok(async_stream::try_stream! {
        let _held = held;
        // For each trial the number of the last line that was told.
        let mut told: BTreeMap<TrialId, u64> = BTreeMap::new();
        let mut own = Lines::new(&driver, &query.job);
        for trial in scope.trials {
            let after = told.entry(trial).or_insert_with(|| query.begin(trial));
            while let Some(lines) = own.after(trial, *after).await? {
                for line in lines {
                    *after = line.sequence;
                    yield line;
                }
            }
        }
        // `ended` was read before the lines: none of them came after the end.
        let mut ended = !query.follow || scope.ended;
        let mut next_look = Instant::now();
        while !ended {
            let changes = next(&driver, &watcher, next_look).await?;
            next_look = Instant::now() + PAUSE;
            let mut news = query.wanted(changes.logs);
            if changes.job {
                ended = tail.ended(query.trial, changes.newest).await?;
                if ended {
                    // Whoever looks was told of all that is to be seen before: the last lines are here.
                    news.extend(query.wanted(watcher.take().logs));
                }
            }
            for (trial, change) in news {
                let after = told.entry(trial).or_insert_with(|| query.begin(trial));
                loop {
                    let lines = match tail.after(trial, *after, change).await? {
                        Some(shared) => shared,
                        // Too far behind for what is shared: reads for itself until it has caught up.
                        None => own.after(trial, *after).await?.unwrap_or_default().into(),
                    };
                    if lines.is_empty() {
                        break;
                    }
                    for line in lines.iter() {
                        *after = line.sequence;
                        yield line.clone();
                    }
                }
            }
        }
    })
}

/// Waits for the next news.
async fn next(
    driver: &DriverHandle,
    watcher: &Watcher,
    not_before: Instant,
) -> Result<Changes, Status> {
    let news = async {
        tokio::time::sleep_until(not_before).await;
        watcher.next().await
    };
    tokio::select! {
        biased;
        () = driver.closing().cancelled() => Err(stopped()),
        changes = news => Ok(changes),
    }
}

/// The trials whose lines are wanted, and whether all of them have ended.
struct Scope {
    trials: Vec<TrialId>,
    ended: bool,
}

impl Scope {
    async fn read(driver: &DriverHandle, query: &Query) -> Result<Self, ApiError> {
        Ok(match query.trial {
            Some(trial) => Self {
                trials: vec![trial],
                ended: found::trial(driver, &query.job, trial).await?.state.ended(),
            },
            None => {
                let summary = found::job(driver, &query.job).await?;
                Self {
                    // Trials are numbered without gaps.
                    trials: (0..summary.trials.total()).map(TrialId).collect(),
                    ended: summary.state.ended(),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::Ordering;

    use futures::StreamExt;

    use super::super::testing::{self, Bench, bench};
    use super::*;

    type Follower = Pin<Box<dyn Stream<Item = Result<LogLine, Status>> + Send>>;

    /// A follower of all trials, or of one, that goes on at these positions.
    async fn follow(
        bench: &Bench,
        tails: &Tails,
        trial: Option<u32>,
        positions: &BTreeMap<u32, u64>,
    ) -> Follower {
        let positions = positions.iter().map(|(trial_id, after)| v1::LogPosition {
            trial_id: *trial_id,
            after_sequence: *after,
        });
        let request = v1::StreamLogsRequest {
            job_id: bench.job.to_string(),
            trial_id: trial,
            follow: true,
            after_sequence: 0,
            positions: positions.collect(),
        };
        let query = Query::read(request).unwrap();
        let stream = open(bench.driver.clone(), tails, query, testing::held());
        Box::pin(stream.await.unwrap())
    }

    async fn line(follower: &mut Follower) -> LogLine {
        follower.next().await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_followers_reads_new_lines_once() {
        const FOLLOWERS: usize = 50;
        const COMMITS: u64 = 40;
        let mut bench = bench(2, 2).await;
        let (one, other) = (bench.placed().await, bench.placed().await);
        bench.log(&one, ["first".to_owned()]).await;
        let tails = Tails::default();
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            let mut follower = follow(&bench, &tails, None, &BTreeMap::new()).await;
            assert_eq!(line(&mut follower).await.text, "first");
            followers.push(follower);
        }
        // Everybody reads for itself what was there, trial by trial, and then waits for news.
        for (rank, text) in [(&other, "second"), (&one, "third")] {
            bench.log(rank, [text.to_owned()]).await;
            for follower in &mut followers {
                assert_eq!(line(follower).await.text, text);
            }
        }
        let before = bench.driver.scans.load(Ordering::SeqCst);
        for number in 0..COMMITS {
            let rank = if number % 2 == 0 { &one } else { &other };
            bench.log(rank, [format!("line {number}")]).await;
            for follower in &mut followers {
                assert_eq!(line(follower).await.text, format!("line {number}"));
            }
        }
        let reads = bench.driver.scans.load(Ordering::SeqCst) - before;
        assert!(reads <= 2 * COMMITS, "{reads} reads for {COMMITS} commits");
        for rank in [&one, &other] {
            bench.ended(rank).await;
        }
        for follower in &mut followers {
            assert!(follower.next().await.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_gets_no_line_twice_and_misses_none() {
        let mut bench = bench(3, 3).await;
        let mut ranks = Vec::new();
        for _ in 0..3 {
            ranks.push(bench.placed().await);
        }
        let tails = Tails::default();
        let mut told = BTreeMap::new();
        let mut seen = Vec::new();
        let mut written = 0;
        for round in 0..6 {
            let mut follower = follow(&bench, &tails, None, &told).await;
            for rank in &ranks[..1 + round % 3] {
                let texts = (0..7).map(|number| format!("{} {round} {number}", rank.at.trial));
                bench.log(rank, texts).await;
                written += 7;
            }
            // It goes away in the middle, each time elsewhere.
            while seen.len() + round < written {
                let line = line(&mut follower).await;
                told.insert(line.trial_id, line.sequence);
                seen.push((line.trial_id, line.sequence));
            }
        }
        for rank in &ranks {
            bench.ended(rank).await;
        }
        let mut follower = follow(&bench, &tails, None, &told).await;
        while let Some(line) = follower.next().await {
            let line = line.unwrap();
            seen.push((line.trial_id, line.sequence));
        }
        let mut distinct = seen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((distinct.len(), seen.len()), (written, written));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_far_behind_reads_for_itself() {
        const LINES: usize = 400;
        let mut bench = bench(1, 1).await;
        let rank = bench.placed().await;
        let tails = Tails::default();
        let mut slow = follow(&bench, &tails, Some(0), &BTreeMap::new()).await;
        let mut quick = follow(&bench, &tails, Some(0), &BTreeMap::new()).await;
        bench.log(&rank, ["0".to_owned()]).await;
        assert_eq!(line(&mut slow).await.text, "0");
        assert_eq!(line(&mut quick).await.text, "0");
        // Far more than is kept.
        for number in 1..LINES {
            let text = format!("{number} {}", "x".repeat(8_000));
            bench.log(&rank, [text]).await;
            assert_eq!(line(&mut quick).await.sequence, number as u64 + 1);
        }
        bench.ended(&rank).await;
        assert!(quick.next().await.is_none());
        for number in 1..LINES {
            assert_eq!(line(&mut slow).await.sequence, number as u64 + 1);
        }
        assert!(slow.next().await.is_none());
    }

    #[test]
    fn too_many_positions_are_refused() {
        let position = v1::LogPosition::default();
        let request = v1::StreamLogsRequest {
            job_id: "a-1".to_owned(),
            positions: vec![position; MAX_POSITIONS + 1],
            ..Default::default()
        };
        let refused = Query::read(request).unwrap_err().to_string();
        assert!(refused.starts_with("positions: 100001"), "{refused}");
    }
}
