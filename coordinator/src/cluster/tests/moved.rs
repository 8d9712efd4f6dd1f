//! A data directory that is opened elsewhere: what its records name in it follows.

use super::rules::job;
use super::*;
use crate::cluster::api::Reply;
use crate::cluster::model::{ArchiveRef, JobState};

fn at(directory: &str) -> MachineConfig {
    MachineConfig {
        default_checkpoint_url: format!("{directory}/checkpoints"),
        directory_url: Some(directory.to_owned()),
        ..config()
    }
}

/// Another process opens what is stored, in this directory.
fn open(bench: &mut Bench, directory: &str) {
    let records = bench.stored.values().cloned();
    bench.machine = Machine::restore(Term(2), at(directory), bench.now, records).unwrap();
}

fn event(what: &str, name: &str) -> Event {
    let (request, job) = (format!("{what} {name}").as_str().into(), name.into());
    match what {
        "cancel" => Event::Cancel { request, job },
        "archive" => Event::Archive { request, job },
        _ => Event::Delete {
            request,
            job,
            force: false,
            checkpoints: true,
        },
    }
}

/// Jobs `a` with the default store, `b` archived, `c` to be removed with its checkpoints, `d` with a store of
/// its own.
fn filled(directory: &str) -> Bench {
    let mut bench = Bench::new();
    open(&mut bench, directory);
    for name in ["a", "b", "c"] {
        bench.apply(submit(name, program(name, 1, "")));
    }
    let elsewhere = "checkpoint_storage: {url: 's3://bucket/x'}";
    bench.apply(submit("d", program("d", 1, elsewhere)));
    for name in ["b-2", "c-3"] {
        bench.apply(event("cancel", name));
    }
    bench.apply(event("archive", "b-2"));
    let archive = ArchiveRef {
        name: "one".to_owned(),
        digest: "d".to_owned(),
        bytes: 1,
    };
    bench.apply(Event::Archived {
        job: "b-2".into(),
        archive: Ok(archive),
    });
    bench.apply(Event::Removed {
        job: "b-2".into(),
        error: None,
    });
    bench.apply(event("delete", "c-3"));
    bench
}

/// The checkpoints that the driver is asked to remove with a step.
fn removed(step: &Step) -> Vec<String> {
    let asked = step.effects.iter().filter_map(|effect| match effect {
        Effect::Remove { checkpoint_url, .. } => checkpoint_url.clone(),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_copy_names_its_own_checkpoints_and_removes_no_others() {
    let mut bench = filled("file:///one");
    open(&mut bench, "file:///two/deep");
    let url = |bench: &Bench, name: &str| {
        let found = bench.machine.any_job(&JobId(name.to_owned()));
        found.unwrap().checkpoint_url
    };
    assert_eq!(url(&bench, "a-1"), "file:///two/deep/checkpoints/a-1");
    assert_eq!(url(&bench, "b-2"), "file:///two/deep/checkpoints/b-2");
    assert_eq!(url(&bench, "d-4"), "s3://bucket/x/d-4");
    // What is still to be removed is the copy's, too.
    let step = bench.later(1);
    assert_eq!(removed(&step), ["file:///two/deep/checkpoints/c-3"]);
    bench.apply(Event::Removed {
        job: "c-3".into(),
        error: None,
    });
    let step = bench.apply(event("delete", "b-2"));
    assert_eq!(removed(&step), ["file:///two/deep/checkpoints/b-2"]);
    // It is written, so that a further move begins from there; back again is one, too.
    for directory in ["file:///three", "file:///one"] {
        open(&mut bench, directory);
        bench.later(1);
        assert_eq!(url(&bench, "a-1"), format!("{directory}/checkpoints/a-1"));
    }
    let stored = bench.stored.values().find_map(|record| match record {
        Record::Job(job) if job.name == "a" => Some(job.store_url.clone()),
        _ => None,
    });
    assert_eq!(stored.unwrap(), "file:///one/checkpoints");
    let workers = bench.apply(joined("w", 1, 2, vec![]));
    let places = assigned(&workers);
    let places = places.iter().map(|task| task.spec.checkpoint_url.clone());
    let places: Vec<_> = places.collect();
    assert!(
        places.contains(&"file:///one/checkpoints/a-1".to_owned()),
        "{places:?}"
    );
}

/// A directory that an older program has written does not say where it lay.
#[test]
fn a_directory_of_an_older_version_stays_as_it_is_and_is_remembered() {
    let mut bench = filled("file:///one");
    for record in bench.stored.values_mut() {
        if let Record::Counters(counters) = record {
            counters.directory_url = None;
        }
    }
    for (directory, expected) in [
        ("file:///two", "file:///one"),
        ("file:///three", "file:///one"),
    ] {
        open(&mut bench, directory);
        bench.later(1);
        let url = job(&bench, "a-1").checkpoint_url;
        assert_eq!(url, format!("{expected}/checkpoints/a-1"));
    }
    let step = bench.apply(submit("e", program("e", 1, "")));
    assert!(matches!(step.reply, Some(Reply::Submitted { .. })));
    open(&mut bench, "file:///four");
    assert_eq!(
        job(&bench, "e-5").checkpoint_url,
        "file:///four/checkpoints/e-5"
    );
    assert_eq!(job(&bench, "e-5").state, JobState::Pending);
}
