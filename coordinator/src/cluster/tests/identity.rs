//! Who may speak in a worker's name.

use super::*;
use crate::cluster::api::{Rejection, Reply, WorkerState};
use crate::cluster::model::Record;

/// A join under an id, with or without a secret.
fn joins(name: &str, session: u64, secret: Option<u8>) -> Event {
    Event::WorkerJoined {
        info: worker(name, 1),
        secret: secret.map(|byte| SecretDigest([byte; 32])),
        peer: Some(PEER),
        session: SessionId(session),
        running: Vec::new(),
        term: Term(1),
    }
}

fn lost(session: u64) -> Event {
    Event::WorkerLost {
        session: SessionId(session),
    }
}

fn forgets(worker: &str) -> Event {
    Event::ForgetWorker {
        worker: worker.into(),
    }
}

fn identities(step: &Step) -> Vec<&Record> {
    let records = step.records.iter();
    records
        .filter(|record| matches!(record, Record::Identity(_)))
        .collect()
}

fn is_free(bench: &mut Bench) -> bool {
    let taken = bench.machine.apply(bench.now, joins("w", 99, Some(99)));
    match taken {
        Ok(_) => true,
        Err(Rejection::Impostor { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_stranger_under_a_known_id_is_refused_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.apply(joins("w", 1, Some(1)));
    let step = bench.apply(submit("r", program("a", 1, "")));
    let rank = ranks(&step).remove(0);
    for stranger in [Some(2), None] {
        let before = (bench.machine.workers(), bench.machine.jobs());
        let refused = bench.machine.apply(bench.now, joins("w", 2, stranger));
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Rejection::Impostor { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.starts_with("worker_id: w is the id of another process"),
            "{text}"
        );
        assert!(text.contains("coordinatorctl worker forget w"), "{text}");
        assert_eq!((bench.machine.workers(), bench.machine.jobs()), before);
        // Its session is none.
        let lie = bench.report(2, &rank, ended(Outcome::Completed, ""));
        assert!(lie.records.is_empty() && lie.effects.is_empty(), "{lie:?}");
        bench.apply(lost(2));
        assert_eq!((bench.machine.workers(), bench.machine.jobs()), before);
    }
    // The worker's own goes on, and it comes back.
    assert!(identities(&bench.apply(joins("w", 3, Some(1)))).is_empty());
    let done = bench.report(3, &rank, ended(Outcome::Completed, ""));
    assert!(!done.records.is_empty());
}

#[test]
fn the_next_leader_asks_for_the_secret_of_which_it_has_the_digest() {
    let mut bench = Bench::new();
    let step = bench.apply(joins("w", 1, Some(1)));
    let kept = identities(&step);
    assert_eq!(kept.len(), 1, "{step:?}");
    let stored = kept[0].encode().unwrap();
    let again = Record::decode(&kept[0].key().0, &stored).unwrap();
    assert_eq!(again, *kept[0]);
    let damaged = String::from_utf8(stored).unwrap().replace("0101", "01zz");
    let error = Record::decode("identity/w", damaged.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("not a digest"), "{error}");
    bench.machine = Machine::restore(Term(2), config(), bench.now, [again]).unwrap();
    assert!(!is_free(&mut bench));
    bench.apply(joins("w", 2, Some(1)));
    // It had come back: its id is its own for longer than the lease of the take-over.
    bench.now += config().lease_ms / 2;
    bench.apply(Event::Heartbeat {
        session: SessionId(2),
    });
    bench.later(config().lease_ms / 2 + 1);
    assert!(!is_free(&mut bench));
}

#[test]
fn an_old_worker_has_no_secret_and_nobody_with_one_takes_its_id() {
    let mut bench = Bench::new();
    let step = bench.apply(joins("w", 1, None));
    let kept = identities(&step)[0].clone();
    assert!(!is_free(&mut bench));
    bench.apply(joins("w", 2, None));
    bench.machine = Machine::restore(Term(2), config(), bench.now, [kept]).unwrap();
    assert!(!is_free(&mut bench));
    bench.apply(joins("w", 3, None));
}

#[test]
fn an_id_is_free_once_nothing_holds_on_to_it() {
    let removed = |step: &Step| step.removed.iter().any(|key| key.0 == "identity/w");
    // Its worker has left.
    let mut bench = Bench::new();
    bench.apply(joins("w", 1, Some(1)));
    bench.apply(Event::Leaving {
        session: SessionId(1),
    });
    assert!(removed(&bench.apply(lost(1))));
    assert!(is_free(&mut bench));
    // Its lease has run out.
    let mut bench = Bench::new();
    let step = bench.apply(joins("w", 1, Some(1)));
    let kept = identities(&step)[0].clone();
    bench.apply(lost(1));
    bench.later(config().lease_ms - 1);
    assert!(!is_free(&mut bench));
    assert!(removed(&bench.later(1)));
    assert!(is_free(&mut bench));
    // Nobody has come back to the next leader with it; its standing still is not the worker's silence.
    let mut bench = Bench::new();
    bench.machine = Machine::restore(Term(2), config(), bench.now, [kept]).unwrap();
    bench.apply(Event::Tick);
    bench.later(config().lease_ms - 1);
    bench.apply(Event::Stalled { ms: 500 });
    bench.later(500);
    assert!(!is_free(&mut bench));
    assert!(bench.machine.next_deadline() == Some(bench.now + 1));
    assert!(removed(&bench.later(1)));
    assert!(is_free(&mut bench));
}

#[test]
fn ids_that_nobody_comes_back_with_go_some_at_a_time() {
    let mut bench = Bench::new();
    let mut kept = Vec::new();
    for number in 0..250 {
        let step = bench.apply(joins(&format!("w-{number}"), number, Some(1)));
        kept.extend(identities(&step).into_iter().cloned());
    }
    bench.machine = Machine::restore(Term(2), config(), bench.now, kept).unwrap();
    bench.apply(Event::Tick);
    bench.now += config().lease_ms;
    let mut pieces = Vec::new();
    while let Some(next) = bench.machine.next_deadline() {
        bench.now = bench.now.max(next);
        pieces.push(bench.apply(Event::Tick).removed.len());
    }
    assert_eq!(pieces, [100, 100, 50]);
}

#[test]
fn an_operator_forgets_a_worker_that_is_gone() {
    let mut bench = Bench::new();
    bench.apply(joins("w", 1, Some(1)));
    bench.apply(submit("r", program("a", 1, "")));
    bench.apply(joins("v", 2, Some(1)));
    let refused = bench.machine.apply(bench.now, forgets("w")).unwrap_err();
    assert!(matches!(refused, Rejection::Connected { .. }), "{refused}");
    bench.apply(lost(1));
    bench.apply(Event::Drain {
        worker: "w".into(),
        undo: false,
    });
    let step = bench.apply(forgets("w"));
    let reply = Reply::Forgotten {
        worker: "w".into(),
        attempts: 1,
    };
    assert_eq!(step.reply, Some(reply));
    // What it ran goes on elsewhere at once, and nothing of it is left.
    let placed = assigned(&step);
    assert_eq!(placed.len(), 1);
    assert_eq!(placed[0].ranks[0].worker.as_str(), "v");
    let removed: Vec<&str> = step.removed.iter().map(|key| key.0.as_str()).collect();
    assert_eq!(removed, ["identity/w", "worker/w"]);
    let known = bench.machine.workers();
    assert!(
        known.iter().all(|known| known.worker.as_str() == "v"),
        "{known:?}"
    );
    assert!(is_free(&mut bench));
    for unknown in ["x", "v-2"] {
        let refused = bench
            .machine
            .apply(bench.now, forgets(unknown))
            .unwrap_err();
        assert!(
            matches!(refused, Rejection::UnknownWorker { .. }),
            "{refused}"
        );
    }
    // One that is only remembered as lost is forgotten, too.
    bench.apply(lost(2));
    bench.later(config().lease_ms);
    let state = |bench: &Bench| {
        let known = bench.machine.workers();
        known
            .iter()
            .find(|w| w.worker.as_str() == "v")
            .map(|w| w.state)
    };
    assert_eq!(state(&bench), Some(WorkerState::Lost));
    bench.apply(forgets("v"));
    assert_eq!(state(&bench), None);
}

#[test]
fn only_where_a_worker_speaks_from_is_knocked() {
    let knocks = |address: &str, peer: Option<&str>| {
        let mut bench = Bench::new();
        let mut info = worker("w", 1);
        info.collective_address = address.to_owned();
        let step = bench.apply(Event::WorkerJoined {
            info,
            secret: None,
            peer: peer.map(|peer| peer.parse().unwrap()),
            session: SessionId(1),
            running: Vec::new(),
            term: Term(1),
        });
        let left = bench.apply(lost(1));
        let knocked = |step: &Step| {
            let mut effects = step.effects.iter();
            effects.any(|effect| matches!(effect, Effect::Knock { .. }))
        };
        assert_eq!(knocked(&step), knocked(&left));
        knocked(&step)
    };
    for (address, peer, expected) in [
        ("10.0.0.1:7", Some("10.0.0.1"), true),
        ("10.0.0.1:7", Some("::ffff:10.0.0.1"), true),
        ("[fd00::7]:7", Some("fd00::7"), true),
        // Behind the address of another, at the coordinator itself, and elsewhere: the lease decides.
        ("10.0.0.1:7", Some("10.0.0.2"), false),
        ("127.0.0.1:22", Some("10.0.0.2"), false),
        ("127.0.0.2:7", Some("127.0.0.1"), false),
        ("10.0.0.1:7", None, false),
        ("", Some("10.0.0.1"), false),
        // What a name has is compared once it is looked up.
        ("box:7", Some("10.0.0.1"), true),
    ] {
        assert_eq!(knocks(address, peer), expected, "{address} {peer:?}");
    }
}
