//! Jobs that leave the records: people who archive and delete them, what a driver's keeper does beside the
//! loop, and what must be left in the end.

use std::collections::BTreeMap;

use trainyard_common::ids::{JobId, Term, TrialId};
use trainyard_coordinator::cluster::api::{Event, Rejection};
use trainyard_coordinator::cluster::model::{
    ArchiveRef, JobRecord, Key, Leaving, Position, Record,
};

use super::jobs::variant_of;
use super::lines::StoredLine;
use super::stats::Hit;
use super::turn::Input;
use super::world::{Due, World};

/// Longest time that the keeper takes for one job.
const KEEPER_MS: u64 = 4_000;

/// What people asked for a job.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) deleted: bool,
    /// Whether it had ended or not.
    forced: bool,
}

/// What a keeper is to do.
#[derive(Debug, Clone)]
pub(super) enum Task {
    Archive {
        trials: u32,
    },
    Remove {
        keep: Option<String>,
        checkpoints: bool,
    },
}

/// A keeper at work on a job, for the leader of a term.
#[derive(Debug)]
pub(super) struct Work {
    term: u64,
    job: JobId,
    task: Task,
}

/// Archives of all jobs, and who asked them to leave.
#[derive(Default)]
pub(super) struct Leavers {
    pub(super) asked: BTreeMap<JobId, Asked>,
    archives: BTreeMap<JobId, BTreeMap<String, Kept>>,
    work: Vec<Option<Work>>,
}

impl Leavers {
    pub(super) fn archive(&self, job: &JobId, name: &str) -> Option<&Kept> {
        self.archives.get(job)?.get(name)
    }

    /// The lines of a trial in an archive.
    pub(super) fn archived_lines(&self, job: &JobId, name: &str, trial: TrialId) -> &[StoredLine] {
        let archive = self.archive(job, name);
        let lines = archive.and_then(|archive| archive.lines.get(&trial));
        lines.map_or(&[], Vec::as_slice)
    }
}

impl World {
    /// Whether a request about a job may be refused so: it has left, or leaves.
    pub(super) fn may_have_left(&self, event: &Event, rejection: &Rejection) -> bool {
        match rejection {
            Rejection::NotEnded { .. } => {
                matches!(
                    event,
                    Event::Archive { .. } | Event::Delete { force: false, .. }
                )
            }
            Rejection::UnknownJob(job) => {
                let asked = self.leavers.asked.get(job);
                asked.is_some_and(|asked| asked.deleted)
            }
            Rejection::Archived { job, .. } | Rejection::Leaving { job, .. } => {
                let retains = variant_of(job).is_some_and(|v| v.job().retain.is_some());
                retains || self.leavers.asked.contains_key(job)
            }
            _ => false,
        }
    }

    /// Somebody moves a job into an archive.
    pub(super) fn user_archives(&mut self) {
        let Some(job) = self.some_job() else { return };
        self.leavers.asked.entry(job.clone()).or_default();
        self.request(|request| Event::Archive { request, job });
    }

    /// Somebody deletes a job, at times one that has not ended.
    pub(super) fn user_deletes(&mut self) {
        let Some(job) = self.some_job() else { return };
        let (force, checkpoints) = (self.below(2) == 0, self.below(2) == 0);
        let asked = self.leavers.asked.entry(job.clone()).or_default();
        asked.deleted = true;
        asked.forced |= force;
        self.request(|request| Event::Delete {
            request,
            job,
            force,
            checkpoints,
        });
    }

    /// A driver is asked to do something beside its loop.
    pub(super) fn keep(&mut self, n: usize, term: Term, job: JobId, task: Task) {
        let number = self.leavers.work.len();
        let term = term.0;
        self.leavers.work.push(Some(Work { term, job, task }));
        // At times before the loop's next turn.
        let (epoch, wait) = (self.nodes[n].epoch, self.below(2) * self.below(KEEPER_MS));
        self.after(wait, Due::Kept(n, epoch, number));
    }

    /// It has been done, unless the process is gone; then some of it may have been.
    pub(super) fn kept(&mut self, n: usize, epoch: u64, number: usize) {
        let node = &self.nodes[n];
        let alive = node.epoch == epoch && node.up;
        if alive && node.stopped_until > self.now {
            let until = node.stopped_until;
            return self.at(until, Due::Kept(n, epoch, number));
        }
        let Some(Work { term, job, task }) = self.leavers.work[number].take() else {
            return;
        };
        if !alive && self.below(2) == 0 {
            return;
        }
        let event = match task {
            Task::Archive { trials } => {
                let archive = self.write_archive(&job, trials, &format!("{term}-{number}"));
                Event::Archived { job, archive }
            }
            Task::Remove { keep, checkpoints } => {
                let swept = self.sweep_job(term, &job, keep.as_deref(), checkpoints);
                let error = swept.err();
                Event::Removed { job, error }
            }
        };
        if alive {
            self.input(n, Input::Tell(None, event));
        }
    }

    /// An archive of all that is stored of a job.
    fn write_archive(
        &mut self,
        job: &JobId,
        trials: u32,
        name: &str,
    ) -> Result<ArchiveRef, String> {
        if self.objects.fails_until > self.now {
            self.stats.hit(Hit::KeeperFailed);
            return Err("the object store does not answer".to_owned());
        }
        let found = self.store.kept_of(job);
        if !found.is_whole(trials) {
            // Only of a job that another leader has let go meanwhile.
            if self.store.jobs.contains_key(job) {
                self.violated(format!(
                    "{job} is to be archived and is not whole: {found:?}"
                ));
            }
            return Err("records are missing".to_owned());
        }
        let archives = self.leavers.archives.entry(job.clone()).or_default();
        archives.insert(name.to_owned(), found);
        Ok(ArchiveRef {
            name: name.to_owned(),
            digest: "d".to_owned(),
            bytes: 1,
        })
    }

    /// What is left of a job goes: its series, its archives but one, its checkpoints. A failure may come in
    /// between.
    fn sweep_job(
        &mut self,
        term: u64,
        job: &JobId,
        keep: Option<&str>,
        checkpoints: bool,
    ) -> Result<(), String> {
        if term != self.store.term {
            return Err("another leads".to_owned());
        }
        if self.store.jobs.contains_key(job) {
            self.violated(format!(
                "what {job} has left goes, and {job} is still there"
            ));
        }
        self.store.points.retain(|(of, _), _| of != job);
        self.store.lines.sweep(job);
        let fails = self.objects.fails_until > self.now;
        if fails && self.below(2) == 0 {
            self.stats.hit(Hit::KeeperFailed);
            return Err("the object store does not answer".to_owned());
        }
        if let Some(archives) = self.leavers.archives.get_mut(job) {
            archives.retain(|name, _| keep == Some(name));
        }
        if fails {
            self.stats.hit(Hit::KeeperFailed);
            return Err("the object store does not answer".to_owned());
        }
        if checkpoints {
            self.objects.delete_all(job);
        }
        Ok(())
    }

    /// What has just left the records is what lies in the archive that is named for it.
    pub(super) fn check_left(&mut self) {
        for (job, name, kept) in std::mem::take(&mut self.store.left) {
            let Some(name) = name else {
                self.stats.hit(Hit::JobDeleted);
                let asked = self.leavers.asked.get(&job).copied().unwrap_or_default();
                if !(asked.forced || asked.deleted && kept.ended()) {
                    self.violated(format!("{job} was deleted and nobody asked so: {kept:?}"));
                }
                continue;
            };
            self.stats.hit(Hit::JobArchived);
            let archives = self.leavers.archives.get(&job);
            let archive = archives.and_then(|archives| archives.get(&name));
            if archive.is_none_or(|archive| !archive.same(&kept)) {
                self.violated(format!(
                    "{job} left for the archive {name}, which holds {archive:?}, not {kept:?}"
                ));
            }
        }
    }

    /// Once all is quiet nothing is left of who was deleted, and of who was archived what was kept.
    pub(super) fn check_leavers(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else {
            return Err("nobody leads at the end".to_owned());
        };
        for job in &self.store.gone {
            let kept = leader.machine.archive_of(job);
            let left = self.store.kept_of(job);
            if !left.is_empty() {
                return Err(format!("{job} has left, and of it there is still {left:?}"));
            }
            let archives = self.leavers.archives.get(job);
            let named = kept.map(|kept| kept.name);
            let there = |name: &String| archives.is_some_and(|known| known.contains_key(name));
            if named.as_ref().is_some_and(|name| !there(name)) {
                return Err(format!("the archive {named:?} of {job} is gone"));
            }
            let asked = self.leavers.asked.get(job);
            if named.is_none() && asked.is_none_or(|asked| !asked.deleted) {
                return Err(format!("{job} is gone, and nobody deleted it"));
            }
        }
        Ok(())
    }
}

/// All that is stored of one job.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) job: Option<JobRecord>,
    pub(super) records: BTreeMap<Key, Record>,
    pub(super) points: BTreeMap<TrialId, Vec<Position>>,
    pub(super) lines: BTreeMap<TrialId, Vec<StoredLine>>,
}

impl Kept {
    /// Whether the job had ended.
    pub(super) fn ended(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.state.ended())
    }

    /// Whether the job itself is among it, and so many trials.
    pub(super) fn is_whole(&self, trials: u32) -> bool {
        let counted = self.records.values();
        let counted = counted.filter(|record| matches!(record, Record::Trial(_)));
        self.job.is_some() && counted.count() == trials as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        let series = self.points.is_empty() && self.lines.is_empty();
        series && self.job.is_none() && self.records.is_empty()
    }

    /// But for notes about the job.
    pub(super) fn same(&self, other: &Self) -> bool {
        let told = |job: &JobRecord| (job.state, job.best, job.test_metrics.clone());
        self.job.as_ref().map(told) == other.job.as_ref().map(told)
            && self.records == other.records
            && self.points == other.points
            && self.lines == other.lines
    }
}

/// What leaves with a job's record, by the step that lets it go.
pub(super) fn let_go<'a>(
    leaving: Option<Leaving>,
    job: &JobId,
    written: impl Iterator<Item = &'a Record>,
) -> Result<Option<String>, String> {
    let (mut archive, mut keeps) = (None, None);
    for record in written {
        match record {
            Record::Archived(archived) if archived.summary.job == *job => {
                archive = Some(archived.archive.name.clone());
            }
            Record::Removal(removal) if removal.job == *job => keeps = Some(removal.keep.clone()),
            _ => {}
        }
    }
    match (leaving, keeps) {
        (Some(Leaving::Archive), Some(keep)) if keep.is_some() && keep == archive => Ok(keep),
        // Whoever was archived may be deleted and go in one step.
        (_, Some(None)) if archive.is_none() => Ok(None),
        (leaving, keeps) => Err(format!(
            "{job} was let go as {leaving:?}, with the archive {archive:?}; kept is {keeps:?}"
        )),
    }
}
