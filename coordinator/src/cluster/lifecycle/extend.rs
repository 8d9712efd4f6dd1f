//! Extending a search: more trials or more time, for one that goes on or has completed.
//!
//! The extension is an entry of the search log, so that replaying the log gives the same suggestions
//! as were made. A completed job is opened again and judged anew at its end.

use trainyard_common::ids::{JobId, RequestId};

use crate::cluster::Machine;
use crate::cluster::api::{Event, Rejection, Reply};
use crate::cluster::lifecycle::requests::fnv1a;
use crate::cluster::model::{Awake, Expected, Job, JobState, Mind, SearchEntry, Told};

/// The longest time that can be added at once, in seconds: ten years.
const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

impl Machine {
    /// What is asked of a search that is to go on, and the search itself where it rested.
    pub(in crate::cluster) fn extending_event(&mut self, event: Event) -> Result<(), Rejection> {
        match event {
            Event::Extend {
                request,
                job,
                trials,
                seconds,
            } => self.extend(&request, &job, trials, seconds)?,
            Event::Wake { job, search } => self.wake_search(&job, *search),
            // Every other is the caller's.
            _ => {}
        }
        Ok(())
    }

    /// Adds trials, seconds or both. Each request id acts once.
    fn extend(
        &mut self,
        request: &RequestId,
        job: &JobId,
        trials: u32,
        seconds: f64,
    ) -> Result<(), Rejection> {
        let digest = fnv1a([
            "extend",
            job.as_str(),
            &trials.to_string(),
            &seconds.to_string(),
        ]);
        let known = self.known_request(request, digest)?;
        if known.is_none() {
            let may = self.may_extend(job, trials, seconds);
            if may.is_err() {
                self.rest(job);
            }
            may?;
            self.reopen(job, trials, seconds);
            self.remember(request, digest, job);
        }
        // Asked once more it may be archived by now.
        let (state, trials_expected) = match (self.jobs.get(job), self.retention.archived(job)) {
            (Some(found), _) => (found.record.state, found.expected()),
            (None, Some(archived)) => (archived.summary.state, archived.summary.trials_expected),
            (None, None) => return Err(Rejection::UnknownJob(job.clone())),
        };
        self.reply(Reply::Extended {
            job: job.clone(),
            state,
            trials_expected,
        });
        Ok(())
    }

    /// Refuses what would have no effect, saying why.
    fn may_extend(&self, job: &JobId, trials: u32, seconds: f64) -> Result<(), Rejection> {
        let Some(found) = self.jobs.get(job) else {
            return Err(self.missing(job, "its search can no longer be extended"));
        };
        self.not_leaving(found, "extend its search")?;
        let refused = |field: &'static str, message: String| {
            Err(Rejection::Extend {
                job: job.clone(),
                field,
                message,
            })
        };
        if trials == 0 && seconds == 0.0 {
            return refused("trials", "neither trials nor time was given".to_owned());
        }
        if !(0.0..=MAX_SECONDS).contains(&seconds) {
            let text = format!("{seconds} given; accepted: seconds from 0 to {MAX_SECONDS}");
            return refused("time", text);
        }
        if matches!(found.record.state, JobState::Failed | JobState::Cancelled) {
            return Err(Rejection::Ended {
                what: job.to_string(),
                ask: "extend: only a search that goes on or has completed can be extended",
            });
        }
        if found.mind.rests() {
            return Err(Rejection::Asleep(job.clone()));
        }
        if found.mind.loads() {
            return Err(Rejection::Loading(job.clone()));
        }
        if trials > 0 && found.scheduler.is_population() {
            let text = format!("{trials} given; a population does not grow");
            return refused("trials", text);
        }
        if let Some(room) = found.mind.room().filter(|room| trials > *room) {
            let has = found.expected().unwrap_or_default();
            let text = format!(
                "{trials} given; the space has no more than {room} configurations besides the {has} of this \
                 search"
            );
            return refused("trials", text);
        }
        let limited = found.document.job().searcher.max_time.is_some();
        if seconds > 0.0 && !limited {
            let text = "the search has no max_time that could be extended".to_owned();
            return refused("time", text);
        }
        let all = found
            .expected()
            .is_some_and(|all| found.trials.len() >= all as usize);
        if trials == 0 && all {
            let text = format!(
                "every one of its {} trials was suggested",
                found.trials.len()
            );
            return refused("trials", text);
        }
        if seconds == 0.0 && limited && found.budget_ends_ms() <= self.now {
            let text = "its max_time has passed; give time as well".to_owned();
            return refused("time", text);
        }
        Ok(())
    }

    /// Takes up the search of an ended job as its log tells it. Nothing, where the log has gone on since or
    /// another call was sooner.
    fn wake_search(&mut self, job: &JobId, search: Awake) {
        if let Some(found) = self.jobs.get_mut(job)
            && matches!(found.record.state, JobState::Completed | JobState::Failed)
            && found.mind.rests()
            && found.next_entry == search.entries
        {
            found.mind = Mind::here(search.thought);
            found.scheduler = search.scheduler;
        }
    }

    fn reopen(&mut self, job: &JobId, trials: u32, seconds: f64) {
        let now = self.now;
        if trials > 0 {
            self.log_search(job, SearchEntry::Extended { trials });
        }
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if !found.mind.rests() {
            found.mind.tell(Told::Extended { trials });
            found.scheduler.reopen();
            // As much as there is room for: more was refused.
            let more = |all: Expected| all.trials().map(|all| all.saturating_add(trials));
            let expected = match found.mind.searcher() {
                Some(searcher) => searcher.expected_trials(),
                None => found.record.expected.and_then(more),
            };
            found.record.expected = Some(Expected::of(expected));
        }
        if seconds > 0.0 {
            // Time that has passed since the old end is not taken from the new one.
            let late = now.saturating_sub(found.budget_ends_ms());
            let added = (seconds * 1_000.0) as u64;
            found.record.extended_ms = found
                .record
                .extended_ms
                .saturating_add(late)
                .saturating_add(added);
        }
        self.open_again(job);
    }

    /// A search goes on that had ended, or whose winner is being judged.
    pub(in crate::cluster) fn open_again(&mut self, job: &JobId) {
        let now = self.now;
        let judged = self.jobs.get(job).and_then(|found| {
            let evaluation = found.record.evaluation.as_ref()?;
            (!found.record.state.ended()).then_some(evaluation.trial)
        });
        if let Some(trial) = judged {
            self.end_live_attempt(job, trial, "its search goes on");
        }
        self.unretain(job);
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let record = &mut found.record;
        // The wall clock may have been ahead when it began; a restored machine counts from now as well.
        record.started_ms = record.started_ms.min(now);
        record.search_closed = None;
        record.evaluation = None;
        record.test_metrics.clear();
        record.ended_ms = 0;
        if !record.held {
            record.note.clear();
            record.state = match record.started_ms {
                0 => JobState::Pending,
                _ => JobState::Running,
            };
        }
        self.activate(job);
        self.draft.jobs.insert(job.clone());
        let ends = self.jobs.get(job).map_or(u64::MAX, Job::search_ends_ms);
        self.wake_at(ends);
        self.dirty = true;
    }
}
