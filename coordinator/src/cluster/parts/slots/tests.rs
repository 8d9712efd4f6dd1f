//! What is kept, charged and open, with a worker or two.

use trainyard_common::spec::Device;

use super::*;
use crate::cluster::parts::kept::Cause;
use crate::placement::queue::{Ask, Queued};
use crate::placement::{Place, Unplaced};

/// What the jobs here need.
fn needs() -> Needs {
    Needs {
        store: "file:///store".to_owned(),
        programs: false,
    }
}

fn job(name: &str) -> JobId {
    JobId(name.to_owned())
}

fn ask(ranks: u32) -> Ask {
    Ask {
        needs: needs(),
        device: 0,
        ranks,
        kept: None,
    }
}

fn place(slot: u32) -> Place {
    Place {
        worker: "w".into(),
        slot,
    }
}

/// One usable worker of so many slots that has proven the store, and a job in line.
fn slots(of: usize, ranks: u32) -> Slots {
    let mut slots = Slots::default();
    assert!(slots.open(&needs()));
    let host = Host {
        machine: "m".to_owned(),
        cpu_kind: "k".to_owned(),
        devices: vec![Device::Cpu; of],
    };
    let worker = WorkerId::from("w");
    slots.insert(&worker, &host, []);
    assert!(slots.set_usable(&worker, true));
    slots.set_standing(&worker, &needs(), Some(Standing::Proven));
    let queued = Queued {
        priority: 0,
        ask: ask(ranks),
        workspace: "space".to_owned(),
        number: 1,
    };
    slots.queue_mut().put(&job("a"), queued);
    slots
}

fn account(priority: i32) -> Option<Account> {
    Some(Account {
        workspace: "space".to_owned(),
        device: 0,
        priority,
        slots: 0,
    })
}

#[test]
fn what_a_job_holds_is_charged_to_its_workspace_and_priority() {
    let mut slots = slots(4, 1);
    slots.charge(&job("a"), 2, || account(5));
    slots.charge(&job("b"), 1, || account(-1));
    slots.charge(&job("a"), 1, || unreachable!());
    assert_eq!(slots.queue().used("space"), [4, 0]);
    assert_eq!(slots.lowest_priority(), Some(-1));
    slots.charge(&job("b"), -1, || unreachable!());
    assert_eq!(
        (slots.holds(&job("b")), slots.lowest_priority()),
        (false, Some(5))
    );
    slots.charge(&job("a"), -3, || unreachable!());
    assert_eq!(
        (slots.holds(&job("a")), slots.lowest_priority()),
        (false, None)
    );
    assert_eq!(slots.queue().used("space"), [0, 0]);
    // Without an account nothing is charged.
    slots.charge(&job("c"), 1, || None);
    assert!(!slots.holds(&job("c")) && slots.held_by().is_empty());
}

#[test]
fn what_is_kept_is_the_job_s_own_until_it_is_let_go() {
    let mut slots = slots(2, 2);
    let places = [place(0), place(1)];
    let asked = slots.keep(&job("a"), &ask(2), &places, Cause::Preempts, "why");
    let own = asked.unwrap();
    assert_eq!(own.kept, Some(job("a")));
    assert_eq!(slots.queue().get(&job("a")).unwrap().ask, own);
    assert_eq!(slots.find(&job("b"), &ask(1)), Err(Unplaced::Busy));
    assert_eq!(slots.find(&job("a"), &own), Ok(places.to_vec()));
    // Asking changes nothing.
    assert_eq!(slots.index().kept(&"w".into(), 0), Some(&job("a")));
    assert_eq!(slots.let_go(&job("a")), Some(true));
    assert_eq!(slots.queue().get(&job("a")).unwrap().ask.kept, None);
    assert_eq!(slots.find(&job("b"), &ask(1)), Ok(vec![place(0)]));
    assert_eq!(slots.let_go(&job("a")), None);
}

#[test]
fn a_gang_that_has_its_places_leaves_the_rest_to_others() {
    let mut slots = slots(3, 1);
    slots.keep(&job("a"), &ask(1), &[place(0)], Cause::Preempts, "why");
    slots.keep(&job("a"), &ask(1), &[place(1)], Cause::Preempts, "why");
    // It got a slot that was not kept: of the two that were, one is enough for its other gang.
    assert!(slots.use_kept(&job("a"), &[place(2)]));
    let left: Vec<Place> = slots
        .kept(&job("a"))
        .unwrap()
        .places
        .iter()
        .cloned()
        .collect();
    assert_eq!(left, [place(0)]);
    assert!(!slots.use_kept(&job("a"), &[place(0)]));
    assert!(slots.kept(&job("a")).is_none() && slots.all_kept().len() == 0);
    assert_eq!(slots.index().kept(&"w".into(), 0), None);
}

#[test]
fn what_is_kept_where_nothing_can_be_placed_is_kept_in_vain() {
    let mut slots = slots(2, 2);
    let places = [place(0), place(1)];
    slots.keep(&job("a"), &ask(2), &places, Cause::Preempts, "why");
    assert_eq!(slots.kept_in_vain(true), []);
    assert!(slots.set_usable(&"w".into(), false));
    assert!(!slots.set_usable(&"w".into(), false));
    // Nobody looks at the places unless something has changed there.
    assert_eq!(slots.kept_in_vain(false), []);
    assert_eq!(slots.kept_in_vain(true), [job("a")]);
    // It comes back: what was kept there still is.
    let host = Host {
        machine: "m".to_owned(),
        cpu_kind: "k".to_owned(),
        devices: vec![Device::Cpu; 2],
    };
    slots.insert(&"w".into(), &host, [0]);
    assert_eq!(slots.index().kept(&"w".into(), 1), Some(&job("a")));
    assert_eq!(slots.index().taken(&place(0)), Some(true));
}

#[test]
fn what_somebody_needs_is_open() {
    let mut slots = slots(1, 1);
    assert!(!slots.open(&needs()));
    slots.close(&needs());
    assert_eq!(slots.needs().collect::<Vec<_>>(), [&needs()]);
    assert_eq!(slots.find(&job("b"), &ask(1)), Ok(vec![place(0)]));
    slots.close(&needs());
    assert_eq!(slots.needs().next(), None);
    assert!(slots.find(&job("b"), &ask(1)).is_err());
}
