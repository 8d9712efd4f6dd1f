//! One process for each worker of a group (`entrypoint.processes: worker`), for launchers that start the ranks
//! themselves, as torchrun does: the first rank on each worker runs it, the others hold their slots until it ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use trainyard_common::spec::Processes;
use trainyard_proto::v1::{AttemptOutcome, Rank};

use crate::attempt::{AttemptKey, End, Stop};
use crate::outbox::Reporter;
use crate::runner::Task;

/// The programs of this worker whose slots other ranks hold.
#[derive(Debug, Default)]
pub(crate) struct Launched(Mutex<BTreeMap<AttemptKey, Weak<Led>>>);

/// A program as the ranks see it that hold its slots.
#[derive(Debug, Default)]
pub(super) struct Led {
    /// How the rank that runs it has ended.
    end: watch::Sender<Option<End>>,
}

/// Ends what it leads with itself, whatever ends it.
#[derive(Debug)]
pub(super) struct Leading(Arc<Led>);

impl Launched {
    /// The program that this rank runs.
    pub(super) fn lead(&self, key: &AttemptKey) -> Leading {
        Leading(self.of(key.clone()))
    }

    /// Whoever comes first makes it, and it lives as long as one of them.
    pub(super) fn of(&self, key: AttemptKey) -> Arc<Led> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, led| led.strong_count() > 0);
        let entry = known.entry(key).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let led = Arc::<Led>::default();
            *entry = Arc::downgrade(&led);
            led
        })
    }
}

impl Leading {
    pub(super) fn ended(&self, end: &End) {
        self.0.end.send_replace(Some(end.clone()));
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        let lost = || End::new(AttemptOutcome::NodeLost, String::new(), 0);
        self.0.end.send_if_modified(|end| {
            let is_open = end.is_none();
            end.get_or_insert_with(lost);
            is_open
        });
    }
}

/// The rank that runs the program, where this one holds a slot of it.
pub(super) fn leader(task: &Task) -> Option<u32> {
    let program = task.spec.job.entrypoint.as_ref()?;
    let (rank, ranks) = (task.assignment.rank, &task.assignment.ranks);
    let own = &ranks.get(rank as usize)?.worker_id;
    let first = ranks.iter().position(|rank| rank.worker_id == *own)?;
    let first = u32::try_from(first).ok()?;
    (program.processes == Processes::Worker && first != rank).then_some(first)
}

/// Holds the slot until the program ends. What it ended with is said by the rank that ran it.
pub(super) async fn hold(led: &Led, leader: u32, reporter: &Reporter) -> End {
    // Nobody expects progress of it: whether the program hangs is seen by its own rank.
    reporter.activity.waits(true);
    let mut end = led.end.subscribe();
    let ended = async {
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        }
    };
    let ended = tokio::select! {
        ended = ended => ended,
        () = reporter.stop.reached(Stop::Abandoned) => None,
    };
    match (ended, reporter.stop.get()) {
        (Some(end), _)
            if matches!(
                end.outcome,
                AttemptOutcome::Completed | AttemptOutcome::Paused
            ) =>
        {
            end
        }
        (ended, Some(stop)) => End::stopped(stop, ended.map_or(0, |end| end.step)),
        (_, None) => {
            let why =
                format!("the program of rank {leader} has ended, which ran here for this rank");
            End::new(AttemptOutcome::NodeLost, why, 0)
        }
    }
}

/// The variables that launchers read (torchrun, and what is built on it; Lightning), and TensorFlow: of workers, not of ranks.
/// Those of ranks are the launcher's to set.
pub(super) fn environment(
    rank: usize,
    ranks: &[Rank],
    hosts: &[String],
    ports: &[u16],
) -> Vec<(&'static str, String)> {
    let mut first: Vec<usize> = Vec::new();
    for (n, rank) in ranks.iter().enumerate() {
        if !first
            .iter()
            .any(|&known| ranks[known].worker_id == rank.worker_id)
        {
            first.push(n);
        }
    }
    let node = first
        .iter()
        .position(|&known| known == rank)
        .unwrap_or(0)
        .to_string();
    let nodes = first.len().to_string();
    let own = ranks.get(rank).map(|rank| rank.worker_id.as_str());
    let here = ranks
        .iter()
        .filter(|rank| Some(rank.worker_id.as_str()) == own);
    let slots = here.count().to_string();
    let master = hosts.first().cloned().unwrap_or_default();
    let port = ports.first().copied().unwrap_or_default().to_string();
    let mut variables = vec![
        ("MASTER_ADDR", master.clone()),
        ("MASTER_PORT", port.clone()),
        ("NODE_RANK", node.clone()),
        ("GROUP_RANK", node.clone()),
        ("GROUP_WORLD_SIZE", nodes.clone()),
        ("LOCAL_WORLD_SIZE", slots.clone()),
        ("PET_NNODES", nodes),
        ("PET_NODE_RANK", node.clone()),
        ("PET_NPROC_PER_NODE", slots),
        ("PET_MASTER_ADDR", master),
        ("PET_MASTER_PORT", port),
    ];
    if first.len() > 1 {
        let workers: Vec<String> = first
            .iter()
            .map(|&n| format!("{}:{}", hosts[n], ports[n]))
            .collect();
        let index: usize = node.parse().unwrap_or_default();
        let config = serde_json::json!({
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": index},
        });
        variables.push(("TF_CONFIG", config.to_string()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use trainyard_proto::v1::Assignment;

    use super::*;
    use crate::outbox::Outbox;
    use crate::runner::Host;
    use crate::runner::testing::{Ran, assignment, exec_spec, run_beside};

    fn ranks(workers: &[&str]) -> Vec<Rank> {
        let ranks = workers.iter().zip(0..);
        ranks
            .map(|(worker, rank)| Rank {
                rank,
                worker_id: (*worker).to_owned(),
                ..Rank::default()
            })
            .collect()
    }

    #[test]
    fn launchers_are_told_of_workers() {
        let ranks = ranks(&["a", "a", "b", "b", "b"]);
        let hosts: Vec<String> = ["h1", "h1", "h2", "h2", "h2"].map(str::to_owned).to_vec();
        let told = |rank| -> BTreeMap<&str, String> {
            environment(rank, &ranks, &hosts, &[1, 2, 3, 4, 5])
                .into_iter()
                .collect()
        };
        let (zero, one) = (told(0), told(2));
        for (name, of_zero, of_one) in [
            ("MASTER_ADDR", "h1", "h1"),
            ("MASTER_PORT", "1", "1"),
            ("PET_NNODES", "2", "2"),
            ("PET_NODE_RANK", "0", "1"),
            ("PET_NPROC_PER_NODE", "2", "3"),
            ("GROUP_WORLD_SIZE", "2", "2"),
            ("LOCAL_WORLD_SIZE", "2", "3"),
        ] {
            assert_eq!(
                (zero[name].as_str(), one[name].as_str()),
                (of_zero, of_one),
                "{name}"
            );
        }
        assert!(
            one["TF_CONFIG"].contains(r#"["h1:1","h2:3"]"#),
            "{}",
            one["TF_CONFIG"]
        );
        assert!(one["TF_CONFIG"].contains(r#""index":1"#));
        for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"] {
            assert!(
                !zero.contains_key(name),
                "{name} would be taken for a rank's"
            );
        }
    }

    /// Three ranks, two of them on one worker, all in this process.
    async fn run(script: &str) -> Vec<Ran> {
        let hosts = [0, 1].map(|_| Arc::new(Host::for_test()));
        let mut spec = exec_spec(&["sh", "-c", script]);
        spec.job.entrypoint.as_mut().unwrap().processes = Processes::Worker;
        let mut given = assignment(&spec);
        given.rendezvous_token = "secret".to_owned();
        given.ranks = ranks(&["a", "a", "b"]);
        for (rank, host) in given.ranks.iter_mut().zip([0, 0, 1]) {
            rank.collective_address = hosts[host].rendezvous.local_addr().to_string();
        }
        let of = |rank: u32| {
            let given = Assignment {
                rank,
                ..given.clone()
            };
            run_beside(given, hosts[rank as usize / 2].clone(), |_| {})
        };
        let (zero, one, two) = tokio::join!(of(0), of(1), of(2));
        vec![zero, one, two]
    }

    #[tokio::test]
    async fn each_worker_runs_one_and_its_other_ranks_end_with_it() {
        let all = run(r#"echo "node $PET_NODE_RANK of $PET_NNODES with $PET_NPROC_PER_NODE, rank ${RANK-none}""#).await;
        let logs: Vec<&str> = all.iter().map(Ran::log).collect();
        assert!(
            logs[0].contains("node 0 of 2 with 2, rank none"),
            "{logs:?}"
        );
        assert!(!logs[1].contains("started"), "{logs:?}");
        assert!(
            logs[2].contains("node 1 of 2 with 1, rank none"),
            "{logs:?}"
        );
        for ran in &all {
            assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{:?}", ran.end);
        }
    }

    #[tokio::test]
    async fn the_rank_that_ran_it_says_how_it_ended() {
        let all = run(r#"exit $((3 * (1 - PET_NODE_RANK)))"#).await;
        let outcomes: Vec<AttemptOutcome> = all.iter().map(|ran| ran.end.outcome).collect();
        let expected = [
            AttemptOutcome::Error,
            AttemptOutcome::NodeLost,
            AttemptOutcome::Completed,
        ];
        assert_eq!(outcomes, expected);
    }

    #[tokio::test]
    async fn who_runs_it_may_be_gone_without_a_word() {
        let launched = Launched::default();
        let key = AttemptKey::new("job-1", 1, 0, 1, 0);
        let led = launched.of(key.clone());
        drop(launched.lead(&key));
        let reporter = Reporter::new(key, Arc::default(), Arc::new(Outbox::new(8)));
        let end = hold(&led, 0, &reporter).await;
        assert_eq!(end.outcome, AttemptOutcome::NodeLost);
    }
}
