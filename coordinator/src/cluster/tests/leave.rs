//! Jobs that leave the records: deleted and archived, over restarts at every step of it.

use std::collections::BTreeMap;

use trainyard_common::ids::{AttemptId, Generation, JobId};

use super::rules::job;
use super::*;
use crate::cluster::api::{LogText, Rejection, Reply};
use crate::cluster::model::{ArchiveRef, AttemptRef, JobState, Key, Leaving, Record};
use crate::cluster::view::pages::Most;

/// A machine and what is stored of it.
struct Kept {
    bench: Bench,
    records: BTreeMap<Key, Record>,
    /// The newest effect for the driver's keeper that was not answered.
    asked: Option<Effect>,
}

impl Kept {
    /// A job of two trials with logged, rested and failed attempts, completed on one worker.
    fn completed(more: &str) -> Self {
        let mut kept = Self {
            bench: Bench::new(),
            records: BTreeMap::new(),
            asked: None,
        };
        kept.apply(submit("r", program("a", 2, more)));
        let step = kept.apply(joined("w", 1, 1, vec![]));
        kept.run_out(step);
        assert_eq!(job(&kept.bench, "a-1").state, JobState::Completed);
        kept
    }

    fn run_out(&mut self, mut step: Step) {
        let mut fails = true;
        while let Some(rank) = ranks(&step).first().cloned() {
            self.report(&rank, epoch(1, "loss", 0.5));
            let outcome = match std::mem::take(&mut fails) {
                true => Outcome::Error,
                false => Outcome::Completed,
            };
            step = self.report(&rank, ended(outcome, "e"));
            if ranks(&step).is_empty() {
                // Within the worker's lease.
                step = self.later(2_000);
            }
        }
    }

    fn store(&mut self, step: &Step) {
        for record in &step.records {
            self.records.insert(record.key(), record.clone());
        }
        for key in &step.removed {
            self.records.remove(key);
        }
        for effect in &step.effects {
            if matches!(effect, Effect::Archive { .. } | Effect::Remove { .. }) {
                assert!(self.asked.is_none(), "two at a time: {effect:?}");
                self.asked = Some(effect.clone());
            }
        }
    }

    fn apply(&mut self, event: Event) -> Step {
        let step = self.bench.apply(event);
        self.store(&step);
        step
    }

    fn report(&mut self, rank: &RankRef, body: ReportBody) -> Step {
        let step = self.bench.report(1, rank, body);
        self.store(&step);
        step
    }

    fn later(&mut self, ms: u64) -> Step {
        self.bench.now += ms;
        self.apply(Event::Tick)
    }

    /// Another coordinator takes over; what the old one had begun is lost.
    fn restart(&mut self) {
        let records = self.records.values().cloned();
        let now = self.bench.now;
        self.bench.machine = Machine::restore(Term(2), config(), now, records).unwrap();
        self.asked = None;
        self.apply(Event::Tick);
    }

    /// The keeper does what it was asked to.
    fn answer(&mut self) -> Step {
        let event = match self.asked.take() {
            Some(Effect::Archive { job, trials }) => {
                let stored = self.records.keys();
                let stored = stored.filter(|key| key.0.starts_with(&format!("trial/{job}/")));
                assert_eq!(trials as usize, stored.count());
                let archive = Ok(archive());
                Event::Archived { job, archive }
            }
            Some(Effect::Remove { job, .. }) => Event::Removed { job, error: None },
            other => panic!("nothing was asked: {other:?}"),
        };
        self.apply(event)
    }

    /// Whether any record of a job is left, but for the requests that named it.
    fn left(&self) -> Vec<&str> {
        let keys = self.records.keys().map(|key| key.0.as_str());
        keys.filter(|key| key.contains("/a-1")).collect()
    }

    /// Goes on until nothing is asked and nothing changes any more.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            if self.asked.is_some() {
                self.answer();
            }
            let step = self.later(1);
            if self.asked.is_none() && step.removed.is_empty() && step.records.is_empty() {
                return;
            }
        }
        panic!("does not end: {:?}", self.left());
    }
}

fn archive() -> ArchiveRef {
    ArchiveRef {
        name: "one".to_owned(),
        digest: "d".to_owned(),
        bytes: 1,
    }
}

fn delete(request: &str, force: bool, checkpoints: bool) -> Event {
    Event::Delete {
        request: request.into(),
        job: "a-1".into(),
        force,
        checkpoints,
    }
}

fn archived(request: &str) -> Event {
    Event::Archive {
        request: request.into(),
        job: "a-1".into(),
    }
}

fn refused(kept: &mut Kept, event: Event) -> Rejection {
    kept.bench.machine.apply(kept.bench.now, event).unwrap_err()
}

#[test]
fn a_deleted_job_leaves_nothing_and_its_id_is_never_used_again() {
    let mut kept = Kept::completed("");
    assert!(kept.left().len() > 8, "{:?}", kept.left());
    let step = kept.apply(delete("d", false, true));
    let deleted = Some(Reply::Deleted { job: "a-1".into() });
    assert_eq!(step.reply, deleted);
    assert!(kept.bench.machine.job(&"a-1".into()).is_none());
    let url = match &kept.asked {
        Some(Effect::Remove {
            keep: None,
            checkpoint_url: Some(url),
            ..
        }) => url.clone(),
        other => panic!("{other:?}"),
    };
    assert!(url.contains("/a-1"), "{url}");
    kept.finish();
    assert_eq!(kept.left(), [""; 0]);
    // The same request again, also after a restart; another one finds nothing.
    kept.restart();
    assert_eq!(kept.apply(delete("d", false, true)).reply, deleted);
    let missing = refused(&mut kept, delete("e", false, true));
    assert_eq!(missing, Rejection::UnknownJob("a-1".into()));
    let step = kept.apply(submit("r2", program("a", 1, "")));
    let Some(Reply::Submitted { job, .. }) = step.reply else {
        panic!("{:?}", step.reply);
    };
    assert_eq!(job, JobId::from("a-2"));
}

#[test]
fn a_running_job_is_deleted_by_force_once_it_holds_no_slots() {
    let mut kept = Kept {
        bench: Bench::new(),
        records: BTreeMap::new(),
        asked: None,
    };
    kept.apply(submit("r", program("a", 2, "")));
    let step = kept.apply(joined("w", 1, 1, vec![]));
    let rank = ranks(&step).remove(0);
    let rejection = refused(&mut kept, delete("d", false, false));
    assert!(
        rejection.to_string().contains("cancel it first"),
        "{rejection}"
    );
    kept.apply(delete("d", true, false));
    assert_eq!(job(&kept.bench, "a-1").state, JobState::Cancelled);
    kept.later(1_000);
    assert!(kept.asked.is_none(), "its rank still has a slot");
    // Over a restart, too: the worker is told to abandon it.
    kept.restart();
    let step = kept.apply(joined("w", 1, 2, vec![rank]));
    let told = step.effects.iter().any(|effect| {
        let Effect::Send { message, .. } = effect else {
            return false;
        };
        matches!(message, ToWorker::Registered { abandon, .. } if abandon.len() == 1)
    });
    assert!(told, "{:?}", step.effects);
    kept.finish();
    assert_eq!(kept.left(), [""; 0]);
    // The slot is free for others.
    kept.apply(submit("r2", program("b", 1, "")));
    let step = kept.later(1);
    assert_eq!(kept.bench.machine.cluster().slots_used, 1, "{step:?}");
}

#[test]
fn records_go_in_pieces() {
    let mut kept = Kept::completed("");
    let before = kept.left().len();
    // As if each trial had been tried often.
    for record in kept.records.values_mut() {
        if let Record::Trial(trial) = record {
            trial.next_attempt = 500;
        }
    }
    kept.restart();
    kept.apply(delete("d", false, false));
    let mut most = 0;
    for _ in 0..30 {
        most = most.max(kept.later(1).removed.len());
    }
    assert!(before < 100 && (50..=110).contains(&most), "{most}");
    kept.finish();
    assert_eq!(kept.left(), [""; 0]);
}

/// Who ends a coordinator once nothing goes on any more waits for this.
#[test]
fn jobs_on_their_way_out_are_counted_until_all_is_gone() {
    let mut kept = Kept::completed("");
    let counts = |kept: &Kept| kept.bench.machine.leaving_jobs();
    assert_eq!(counts(&kept), (0, 0));
    kept.apply(delete("d", false, true));
    assert_eq!(counts(&kept), (1, 0));
    kept.asked = None;
    kept.apply(Event::Removed {
        job: "a-1".into(),
        error: Some("the store is away".to_owned()),
    });
    assert_eq!(counts(&kept), (0, 1), "it waits to be tried again");
    kept.later(10_000);
    assert_eq!(counts(&kept), (1, 0));
    kept.finish();
    assert_eq!(counts(&kept), (0, 0));
}

/// The last lines of a worker that comes back are acknowledged as any others: an archive that was copied
/// before them is not the job's.
#[test]
fn lines_that_come_while_an_archive_is_written_are_in_the_next_one() {
    let mut kept = Kept::completed("");
    let late = |first: u64| Event::Logs {
        session: SessionId(1),
        rank: RankRef {
            at: AttemptRef {
                job: "a-1".into(),
                trial: TrialId(0),
                attempt: AttemptId(0),
                generation: Generation(1),
            },
            rank: 0,
        },
        first,
        lines: vec![LogText {
            time_ms: 1,
            level: "info".to_owned(),
            text: format!("line {first}"),
        }],
    };
    kept.apply(archived("archive"));
    assert!(matches!(kept.asked, Some(Effect::Archive { .. })));
    let step = kept.apply(late(1));
    assert_eq!(step.logs.len(), 1, "it is stored, and acknowledged");
    kept.answer();
    let archive_of = |kept: &Kept| kept.bench.machine.archive_of(&"a-1".into());
    assert_eq!(archive_of(&kept), None, "it lacks the line");
    assert!(kept.asked.is_none(), "more lines may come");
    // Lines of other jobs, and those that were stored before, are no reason.
    kept.later(10_000);
    assert!(matches!(kept.asked, Some(Effect::Archive { .. })));
    let step = kept.apply(late(1));
    assert!(step.logs.is_empty());
    kept.apply(submit("other", program("b", 1, "")));
    kept.answer();
    assert_eq!(archive_of(&kept), Some(archive()));
}

#[test]
fn an_archived_job_stays_in_its_records_until_the_archive_exists() {
    let mut kept = Kept::completed("retain: 3600");
    kept.later(3_500_000);
    assert!(kept.asked.is_none());
    assert!(job(&kept.bench, "a-1").archived_ms == 0);
    kept.later(100_000);
    assert!(matches!(kept.asked, Some(Effect::Archive { .. })));
    let before = kept.left().len();
    let extend = |request: &str| Event::Extend {
        request: request.into(),
        job: "a-1".into(),
        trials: 1,
        seconds: 0.0,
    };
    let rejection = refused(&mut kept, extend("e"));
    assert!(
        matches!(rejection, Rejection::Leaving { .. }),
        "{rejection}"
    );
    kept.later(1_000);
    assert_eq!(kept.left().len(), before, "nothing goes before it exists");
    kept.answer();
    let archive_of = |kept: &Kept| kept.bench.machine.archive_of(&"a-1".into());
    assert_eq!(archive_of(&kept), Some(archive()));
    assert!(
        matches!(&kept.asked, Some(Effect::Remove { keep: Some(name), checkpoint_url: None, .. })
            if name == "one")
    );
    kept.finish();
    assert_eq!(kept.left(), ["archived/a-1"]);
    kept.restart();
    assert_eq!(archive_of(&kept), Some(archive()));
    let summary = kept.bench.machine.any_job(&"a-1".into()).unwrap();
    assert_eq!(
        (summary.state, summary.trials.completed, summary.best_value),
        (JobState::Completed, 2, Some(0.5))
    );
    assert!(summary.archived_ms > 0 && kept.bench.machine.jobs().is_empty());
    assert_eq!(
        kept.bench
            .machine
            .jobs_page(u64::MAX, "", true, Most::ALL)
            .entries
            .len(),
        1
    );
    assert!(
        kept.bench
            .machine
            .jobs_page(1, "", true, Most::ALL)
            .entries
            .is_empty()
    );
    let rejection = refused(&mut kept, extend("e"));
    assert!(
        rejection.to_string().contains("no longer be extended"),
        "{rejection}"
    );
    let step = kept.apply(archived("again"));
    let reply = Reply::Archiving {
        job: "a-1".into(),
        archived: true,
    };
    assert_eq!(step.reply, Some(reply));
    // And it can still be deleted.
    kept.apply(delete("d", false, false));
    assert!(matches!(
        kept.asked,
        Some(Effect::Remove { keep: None, .. })
    ));
    kept.finish();
    assert_eq!(kept.left(), [""; 0]);
}

#[test]
fn an_extension_that_was_made_is_answered_again_once_the_job_is_archived() {
    let mut kept = Kept::completed("");
    let extend = Event::Extend {
        request: "x".into(),
        job: "a-1".into(),
        trials: 1,
        seconds: 0.0,
    };
    let step = kept.apply(extend.clone());
    kept.run_out(step);
    kept.apply(archived("z"));
    kept.answer();
    kept.finish();
    assert_eq!(kept.left(), ["archived/a-1"]);
    let step = kept.apply(extend);
    let reply = Reply::Extended {
        job: "a-1".into(),
        state: JobState::Completed,
        trials_expected: Some(3),
    };
    assert_eq!(step.reply, Some(reply));
}

#[test]
fn a_restart_anywhere_loses_nothing_and_leaves_nothing() {
    for deleted in [false, true] {
        for cut in 0..20 {
            let mut kept = Kept::completed("");
            kept.apply(match deleted {
                true => delete("d", false, false),
                false => archived("d"),
            });
            for turn in 0..cut {
                if kept.asked.is_some() && turn % 2 == 1 {
                    kept.answer();
                } else {
                    kept.later(1);
                }
            }
            kept.restart();
            kept.finish();
            let expected: &[&str] = match deleted {
                true => &[],
                false => &["archived/a-1"],
            };
            assert_eq!(kept.left(), expected, "cut at {cut}");
        }
    }
}

#[test]
fn what_fails_is_tried_again_later() {
    let mut kept = Kept::completed("");
    kept.apply(archived("d"));
    let mut waited = Vec::new();
    for _ in 0..3 {
        assert!(kept.asked.take().is_some());
        kept.apply(Event::Archived {
            job: "a-1".into(),
            archive: Err("no such bucket".to_owned()),
        });
        let note = job(&kept.bench, "a-1").note;
        assert!(note.contains("no such bucket"), "{note}");
        let begun = kept.bench.now;
        while kept.asked.is_none() {
            kept.later(1_000);
        }
        waited.push(kept.bench.now - begun);
    }
    assert_eq!(waited, [5_000, 10_000, 20_000]);
    kept.answer();
    assert!(kept.asked.take().is_some());
    kept.apply(Event::Removed {
        job: "a-1".into(),
        error: Some("offline".to_owned()),
    });
    assert!(kept.asked.is_none());
    kept.later(60_000);
    assert!(matches!(kept.asked, Some(Effect::Remove { .. })));
    kept.finish();
    assert_eq!(kept.left(), ["archived/a-1"]);
}

#[test]
fn a_deletion_waits_for_the_archive_under_way_and_takes_it_along() {
    let mut kept = Kept::completed("");
    kept.apply(archived("x"));
    let step = kept.apply(delete("d", false, false));
    let marked = step.records.iter().any(|record| match record {
        Record::Job(job) => job.leaving == Some(Leaving::Delete { checkpoints: false }),
        _ => false,
    });
    assert!(marked && matches!(kept.asked, Some(Effect::Archive { .. })));
    let rejection = refused(&mut kept, archived("y"));
    assert!(
        matches!(rejection, Rejection::Leaving { .. }),
        "{rejection}"
    );
    kept.answer();
    assert!(matches!(
        kept.asked,
        Some(Effect::Remove { keep: None, .. })
    ));
    kept.finish();
    assert_eq!(kept.left(), [""; 0]);
    assert!(kept.bench.machine.any_job(&"a-1".into()).is_none());
}

/// The coordinator's default counts where the spec says nothing, from the end, anew after an extension.
#[test]
fn retention_begins_with_the_end() {
    let mut kept = Kept::completed("seed: 3");
    let month = config().retain_ms;
    kept.later(month - 200_000);
    kept.apply(Event::Extend {
        request: "e".into(),
        job: "a-1".into(),
        trials: 1,
        seconds: 0.0,
    });
    kept.later(300_000);
    assert!(kept.asked.is_none());
    let step = kept.apply(joined("w", 1, 1, vec![]));
    kept.run_out(step);
    assert_eq!(job(&kept.bench, "a-1").state, JobState::Completed);
    kept.later(month - 200_000);
    assert!(kept.asked.is_none());
    kept.restart();
    kept.later(300_000);
    assert!(matches!(kept.asked, Some(Effect::Archive { .. })));
}

/// A job that has shipped its code.
fn shipped(request: &str, name: &str, digit: &str) -> Event {
    let text = format!(
        "name: {name}\nentrypoint: {{command: [train], bundle: {}}}\n\
         hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}\n\
         objectives: [{{metric: loss, mode: minimize}}]\n\
         searcher: {{name: random, max_trials: 1}}\n",
        digit.repeat(64)
    );
    submit(request, Document::parse(&text).unwrap())
}

#[test]
fn a_bundle_goes_with_the_last_job_that_names_it() {
    let mut kept = Kept {
        bench: Bench::new(),
        records: BTreeMap::new(),
        asked: None,
    };
    for (job, digit) in [("a", "d"), ("b", "d"), ("c", "e")] {
        kept.apply(shipped(job, job, digit));
        kept.apply(Event::Cancel {
            request: format!("cancel-{job}").as_str().into(),
            job: format!("{job}-{}", kept.bench.machine.jobs().len())
                .as_str()
                .into(),
        });
    }
    let step = kept.apply(joined("w", 1, 1, vec![]));
    assert!(ranks(&step).is_empty());
    let url = |digit: &str| {
        let folder = kept.bench.machine.bundle_folder(None).unwrap();
        format!("{folder}/{}.tar.gz", digit.repeat(64))
    };
    let (one, two) = (url("d"), url("e"));
    assert!(kept.bench.machine.names_bundle(&one) && kept.bench.machine.names_bundle(&two));
    let asked = |kept: &Kept| match &kept.asked {
        Some(Effect::Remove { bundle_url, .. }) => bundle_url.clone(),
        other => panic!("{other:?}"),
    };
    let gone = |request: &str, job: &str| Event::Delete {
        request: request.into(),
        job: job.into(),
        force: false,
        checkpoints: false,
    };
    kept.apply(gone("x", "a-1"));
    assert_eq!(asked(&kept), None, "the second job names it");
    kept.finish();
    kept.apply(gone("y", "b-2"));
    assert_eq!(asked(&kept), Some(one.clone()));
    assert!(!kept.bench.machine.names_bundle(&one) && kept.bench.machine.names_bundle(&two));
    // Whatever the keeper had begun, the next one begins it anew.
    kept.restart();
    assert_eq!(asked(&kept), Some(one));
    kept.finish();
    // An archived job trains nothing any more.
    kept.apply(Event::Archive {
        request: "z".into(),
        job: "c-3".into(),
    });
    kept.answer();
    assert_eq!(asked(&kept), Some(two));
}
