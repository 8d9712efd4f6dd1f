//! Shares, weights and quotas of workspaces.

use super::rules::job;
use super::*;
use crate::cluster::api::{Rejection, Reply, WorkspaceChange, WorkspaceSummary};
use crate::cluster::model::Record;
use crate::cluster::view::pages::Most;

fn set(bench: &mut Bench, workspace: &str, change: WorkspaceChange) -> Step {
    bench.apply(Event::SetWorkspace {
        workspace: workspace.to_owned(),
        change,
    })
}

fn weight(weight: f64) -> WorkspaceChange {
    WorkspaceChange {
        weight: Some(weight),
        ..WorkspaceChange::default()
    }
}

fn cpu(most: u32) -> WorkspaceChange {
    WorkspaceChange {
        max_cpu_slots: Some(most),
        ..WorkspaceChange::default()
    }
}

fn known(bench: &Bench, workspace: &str) -> WorkspaceSummary {
    let known = bench.machine.workspaces().into_iter();
    let mut known = known.filter(|known| known.workspace == workspace);
    known.next().unwrap()
}

fn search(name: &str, workspace: &str, more: &str) -> Document {
    program(name, 400, &format!("workspace: {workspace}\n{more}"))
}

#[test]
fn free_slots_are_shared_by_weight_over_time() {
    let mut bench = Bench::new();
    set(&mut bench, "b", weight(3.0));
    bench.apply(submit("1", search("a", "a", "")));
    bench.apply(submit("2", search("b", "b", "")));
    bench.apply(submit("3", search("c", "c", "")));
    let mut running = ranks(&bench.apply(joined("w", 10, 1, vec![])));
    // Whoever ends: the shares stay as the weights say.
    for turn in 0..100 {
        let ends = running.swap_remove(turn * 7 % running.len());
        bench.report(1, &ends, epoch(1, "loss", 1.0));
        running.extend(ranks(&bench.report(
            1,
            &ends,
            ended(Outcome::Completed, ""),
        )));
        let used = ["a", "b", "c"].map(|name| known(&bench, name).cpu_slots_used);
        assert_eq!(used, [2, 6, 2], "turn {turn}");
    }
}

#[test]
fn the_larger_fraction_counts() {
    let mut bench = Bench::new();
    let mut info = worker("w", 6);
    info.devices[4] = "cuda:0".to_owned();
    info.devices[5] = "cuda:1".to_owned();
    bench.apply(submit(
        "1",
        search(
            "gpu",
            "a",
            "resources: {device: cuda}\nsearcher: {name: random, max_trials: 1}",
        ),
    ));
    bench.apply(submit("2", search("a", "a", "")));
    bench.apply(submit("3", search("b", "b", "")));
    let step = bench.apply(Event::WorkerJoined {
        info,
        secret: None,
        peer: None,
        session: SessionId(1),
        running: Vec::new(),
        term: Term(1),
    });
    let placed: Vec<String> = ranks(&step).iter().map(|r| r.at.job.to_string()).collect();
    // Half of the cuda slots count as much as two of four cpu slots; then who was first is.
    assert_eq!(placed, ["gpu-1", "b-3", "b-3", "a-2", "a-2"]);
}

#[test]
fn a_quota_holds_and_its_reason_is_told() {
    let mut bench = Bench::new();
    set(&mut bench, "a", cpu(2));
    bench.apply(submit("1", search("a", "a", "")));
    bench.apply(submit(
        "2",
        search("gang", "a", "resources: {slots_per_trial: 3}"),
    ));
    let step = bench.apply(joined("w", 4, 1, vec![]));
    assert_eq!(ranks(&step).len(), 2);
    assert_eq!(
        job(&bench, "gang-2").note,
        "needs 3 cpu slots at one time; the quota of workspace a is 2"
    );
    bench.apply(submit("3", search("later", "a", "")));
    assert_eq!(
        job(&bench, "later-3").note,
        "waits for 1 cpu slots of the quota of workspace a, which is 2"
    );
    // Lowered below what is in use: nobody is stopped, nothing new begins.
    assert_eq!(ranks(&set(&mut bench, "a", cpu(1))).len(), 0);
    let running = ranks(&step);
    bench.report(1, &running[0], epoch(1, "loss", 1.0));
    let step = bench.report(1, &running[0], ended(Outcome::Completed, ""));
    assert_eq!(ranks(&step).len(), 0);
    let no_quota = WorkspaceChange {
        no_quota: true,
        ..WorkspaceChange::default()
    };
    assert_eq!(ranks(&set(&mut bench, "a", no_quota)).len(), 3);
    assert_eq!(known(&bench, "a").cpu_slots_used, 4);
}

#[test]
fn a_quota_of_its_own_does_not_starve_a_gang() {
    let mut bench = Bench::new();
    set(&mut bench, "a", cpu(2));
    bench.apply(submit("1", search("small", "a", "")));
    let mut running = ranks(&bench.apply(joined("w", 4, 1, vec![])));
    assert_eq!(running.len(), 2);
    let gang = "resources: {slots_per_trial: 2}\npriority: 1";
    bench.apply(submit("2", search("gang", "a", gang)));
    let mut ends = |bench: &mut Bench| {
        let rank = running.remove(0);
        bench.report(1, &rank, epoch(1, "loss", 1.0));
        let next = ranks(&bench.report(1, &rank, ended(Outcome::Completed, "")));
        running.extend(next.clone());
        next.iter()
            .map(|r| r.at.job.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ends(&mut bench), ["small-1"]);
    for _ in 0..10 {
        bench.now += 2_000;
        let session = SessionId(1);
        bench.apply(Event::Heartbeat { session });
    }
    bench.apply(Event::Tick);
    assert_eq!(ends(&mut bench), [""; 0]);
    assert_eq!(ends(&mut bench), ["gang-2", "gang-2"]);
}

#[test]
fn what_is_kept_of_a_quota_is_given_up_with_the_quota() {
    let mut bench = Bench::new();
    set(&mut bench, "a", cpu(3));
    bench.apply(submit("1", search("small", "a", "")));
    let running = ranks(&bench.apply(joined("w", 2, 1, vec![])));
    let gang = "resources: {slots_per_trial: 3}\npriority: 1";
    bench.apply(submit("2", search("gang", "a", gang)));
    for _ in 0..10 {
        bench.now += 2_000;
        let session = SessionId(1);
        bench.apply(Event::Heartbeat { session });
    }
    bench.apply(Event::Tick);
    bench.report(1, &running[0], epoch(1, "loss", 1.0));
    let step = bench.report(1, &running[0], ended(Outcome::Completed, ""));
    assert_eq!(ranks(&step).len(), 0, "kept for the gang");
    let step = bench.apply(Event::RemoveWorkspace {
        workspace: "a".to_owned(),
    });
    let placed: Vec<String> = ranks(&step).iter().map(|r| r.at.job.to_string()).collect();
    assert_eq!(placed, ["small-1"]);
}

#[test]
fn what_was_set_outlives_the_coordinator() {
    let mut bench = Bench::new();
    let mut records = std::collections::BTreeMap::new();
    let all = WorkspaceChange {
        weight: Some(2.5),
        max_cpu_slots: Some(1),
        max_cuda_slots: Some(0),
        no_quota: false,
    };
    let steps = [
        set(&mut bench, "a", all),
        bench.apply(submit("1", search("a", "a", ""))),
        bench.apply(joined("w", 2, 1, vec![])),
    ];
    for record in steps.into_iter().flat_map(|step| step.records) {
        let key = record.key();
        let bytes = record.encode().unwrap();
        records.insert(key.clone(), Record::decode(&key.0, &bytes).unwrap());
    }
    // Set again to the same, nothing is written.
    assert!(set(&mut bench, "a", all).records.is_empty());
    let rank = held(&bench);
    bench.machine = Machine::restore(Term(2), config(), bench.now, records.into_values()).unwrap();
    let summary = known(&bench, "a");
    assert_eq!((summary.weight, summary.max_cpu_slots), (2.5, Some(1)));
    assert_eq!(summary.max_cuda_slots, Some(0));
    // What its attempts hold on workers that are not back yet counts.
    assert_eq!(summary.cpu_slots_used, 1);
    assert_eq!(ranks(&bench.apply(joined("v", 2, 1, vec![]))).len(), 0);
    bench.apply(joined("w", 2, 2, rank));
    assert_eq!(known(&bench, "a").cpu_slots_used, 1);
    let step = bench.apply(Event::RemoveWorkspace {
        workspace: "a".to_owned(),
    });
    assert_eq!(step.removed[0].0, "workspace/a");
    assert_eq!(ranks(&step).len(), 3);
    let Some(Reply::Workspace(left)) = step.reply else {
        panic!("{step:?}")
    };
    assert_eq!((left.weight, left.max_cpu_slots), (1.0, None));
}

fn held(bench: &Bench) -> Vec<RankRef> {
    let workers = bench.machine.workers.values();
    workers
        .flat_map(crate::cluster::model::Worker::held)
        .collect()
}

#[test]
fn what_cannot_be_set_is_refused() {
    let mut bench = Bench::new();
    for (name, change, text) in [
        (
            "a",
            weight(0.0),
            "weight: 0 given; accepted: from 0.001 to 1000000",
        ),
        ("a", weight(f64::NAN), "weight: NaN given"),
        ("a", weight(-1.0), "weight: -1 given"),
        (
            "a",
            WorkspaceChange::default(),
            "neither a weight nor a quota",
        ),
        ("", weight(1.0), "name: accepted: letters"),
        ("a/b", weight(1.0), "name: accepted: letters"),
    ] {
        let event = Event::SetWorkspace {
            workspace: name.to_owned(),
            change,
        };
        let refused = bench.machine.apply(0, event).unwrap_err();
        assert!(matches!(refused, Rejection::Workspace { .. }));
        assert!(refused.to_string().contains(text), "{refused}");
    }
    assert!(bench.machine.workspaces().is_empty());
}

#[test]
fn a_page_of_jobs_is_of_its_workspace_alone() {
    let mut bench = Bench::new();
    for (request, workspace) in [("1", "a"), ("2", "b"), ("3", "a")] {
        bench.apply(submit(request, search("s", workspace, "")));
    }
    let numbers = |workspace: &str, before: u64| {
        let machine = &bench.machine;
        let page = machine.jobs_page(before, workspace, false, Most::ALL);
        let entries = page.entries.into_iter();
        entries.map(|(number, _)| number).collect::<Vec<u64>>()
    };
    assert_eq!(numbers("a", u64::MAX), [3, 1]);
    assert_eq!(numbers("b", u64::MAX), [2]);
    assert_eq!(numbers("", u64::MAX), [3, 2, 1]);
    assert_eq!(numbers("a", 3), [1]);
    assert_eq!(numbers("c", u64::MAX), [0; 0]);
}
