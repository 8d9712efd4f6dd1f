//! What the ranks of a program need of each other before they start: a port of each, reserved on its host.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use trainyard_common::spec::Processes;
use trainyard_proto::v1::Rank;

use super::launcher;
use crate::attempt::End;
use crate::collective::Cancel;
use crate::outbox::Reporter;
use crate::runner::gather::{apart, gather};
use crate::runner::{Host, Task};

/// Ports that are handed out. Linux gives out those from 32768 on by itself, so that nobody gets one of these by
/// chance.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
/// Programs of any kind of processor may train together.
pub(super) const ANY_KIND: &str = "program";

/// Of the attempts of this process.
static RESERVED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that no other attempt of this process gets until this is dropped.
#[derive(Debug)]
struct Port(u16);

impl Port {
    fn reserve() -> Option<Self> {
        let seed = uuid::Uuid::new_v4().as_u128();
        Self::reserve_from(u16::try_from(seed % u128::from(PORTS)).unwrap_or_default())
    }

    /// The first that is free from the n-th on.
    fn reserve_from(first: u16) -> Option<Self> {
        (0..PORTS).find_map(|n| {
            let port = FIRST_PORT + (first + n) % PORTS;
            let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
            // Free now, and let go again: the program is to have it.
            let free = !reserved.contains(&port)
                && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
            if !free {
                return None;
            }
            reserved.insert(port);
            Some(Self(port))
        })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.remove(&self.0);
    }
}

/// The ports of all ranks.
#[derive(Debug)]
pub(super) struct Gang {
    ports: Vec<u16>,
    /// This rank's, reserved as long as this lives.
    _own: Port,
}

impl Gang {
    /// Reserves a port and learns those of the other ranks, which come together for it.
    pub(super) async fn meet(
        task: &Task,
        reporter: &Reporter,
        host: &Arc<Host>,
    ) -> Result<Self, End> {
        let Some(own) = Port::reserve() else {
            let last = FIRST_PORT + PORTS - 1;
            return Err(End::error(
                format!("no port from {FIRST_PORT} to {last} is free on this worker's host"),
                0,
            ));
        };
        if task.assignment.ranks.len() == 1 {
            return Ok(Self {
                ports: vec![own.0],
                _own: own,
            });
        }
        let (assignment, key) = (task.assignment.clone(), reporter.key.clone());
        let cancel = Cancel::new();
        let (mine, host, switch) = (own.0, host.clone(), cancel.clone());
        let mut meeting = tokio::task::spawn_blocking(move || {
            let kind = ANY_KIND.to_owned();
            let mut group = gather(&assignment, &key, &host, &switch, kind)?;
            group.all_gather(&mine.to_be_bytes())
        });
        let met = tokio::select! {
            met = &mut meeting => met,
            () = reporter.stop.requested() => {
                cancel.cancel();
                meeting.await
            }
        };
        let gathered = match met {
            Ok(Ok(gathered)) => gathered,
            Ok(Err(error)) => return Err(apart(&error, reporter)),
            Err(error) => return Err(End::error(format!("the ranks could not meet: {error}"), 0)),
        };
        let ports = gathered
            .iter()
            .map(|bytes| bytes.as_slice().try_into().map(u16::from_be_bytes));
        match ports.collect() {
            Ok(ports) => Ok(Self { ports, _own: own }),
            Err(_) => Err(End::error("a rank has told no port", 0)),
        }
    }

    /// The variables that torch.distributed, what is built on it, and TensorFlow read.
    pub(super) fn environment(&self, task: &Task) -> Vec<(&'static str, String)> {
        let assignment = &task.assignment;
        let (rank, ranks) = (assignment.rank as usize, &assignment.ranks);
        let program = task.spec.job.entrypoint.as_ref();
        if program.is_some_and(|program| program.processes == Processes::Worker) {
            let hosts: Vec<String> = ranks.iter().map(|rank| host_of(Some(rank))).collect();
            return launcher::environment(rank, ranks, &hosts, &self.ports);
        }
        let at = place(rank, ranks);
        let master = host_of(ranks.first());
        let port = self.ports.first().copied().unwrap_or_default();
        let restarts = assignment.attempt;
        let mut variables = vec![
            ("MASTER_ADDR", master.clone()),
            ("MASTER_PORT", port.to_string()),
            ("RANK", rank.to_string()),
            ("WORLD_SIZE", ranks.len().to_string()),
            ("LOCAL_RANK", at.local_rank.to_string()),
            ("LOCAL_WORLD_SIZE", at.local_world_size.to_string()),
            ("GROUP_RANK", at.group_rank.to_string()),
            (
                "TORCHELASTIC_RUN_ID",
                format!("{}-{}", assignment.job_id, assignment.trial_id),
            ),
            ("TORCHELASTIC_RESTART_COUNT", restarts.to_string()),
            (
                "TORCHELASTIC_MAX_RESTARTS",
                task.spec.job.max_restarts.max(restarts).to_string(),
            ),
        ];
        if ranks.len() > 1 {
            // `jax.distributed.initialize` reads the rest from its arguments.
            variables.push(("JAX_COORDINATOR_ADDRESS", format!("{master}:{port}")));
            let hosts = ranks.iter().map(|rank| host_of(Some(rank)));
            let workers: Vec<String> = hosts
                .zip(&self.ports)
                .map(|(host, port)| format!("{host}:{port}"))
                .collect();
            let config = serde_json::json!({
                "cluster": {"worker": workers},
                "task": {"type": "worker", "index": rank},
            });
            variables.push(("TF_CONFIG", config.to_string()));
        }
        variables
    }
}

/// Where a rank stands among those of its worker, and its worker among all.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    local_rank: usize,
    local_world_size: usize,
    group_rank: usize,
}

fn place(rank: usize, ranks: &[Rank]) -> Place {
    let worker = ranks.get(rank).map(|rank| rank.worker_id.as_str());
    let of = |rank: &Rank| Some(rank.worker_id.as_str()) == worker;
    let mut workers: Vec<&str> = Vec::new();
    for rank in ranks {
        if !workers.contains(&rank.worker_id.as_str()) {
            workers.push(&rank.worker_id);
        }
    }
    Place {
        local_rank: ranks.iter().take(rank).filter(|rank| of(rank)).count(),
        local_world_size: ranks.iter().filter(|rank| of(rank)).count(),
        group_rank: workers
            .iter()
            .position(|id| Some(*id) == worker)
            .unwrap_or(0),
    }
}

/// Where a rank is; this machine, where nothing is said.
fn host_of(rank: Option<&Rank>) -> String {
    let host = rank.and_then(|rank| rank.collective_address.rsplit_once(':'));
    match host {
        Some((host, _)) if !host.is_empty() => host.trim_matches(['[', ']']).to_owned(),
        _ => Ipv4Addr::LOCALHOST.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use trainyard_proto::v1::Assignment;

    use crate::attempt::AttemptKey;
    use crate::outbox::Outbox;
    use crate::runner::testing::{assignment, exec_spec};

    use super::*;

    #[test]
    fn ranks_know_their_place_on_their_worker() {
        let ranks: Vec<Rank> = ["a", "b", "a", "c", "a"]
            .iter()
            .map(|worker| Rank {
                worker_id: (*worker).to_owned(),
                ..Rank::default()
            })
            .collect();
        let places: Vec<(usize, usize, usize)> = (0..ranks.len())
            .map(|rank| place(rank, &ranks))
            .map(|at| (at.local_rank, at.local_world_size, at.group_rank))
            .collect();
        assert_eq!(
            places,
            [(0, 3, 0), (0, 1, 1), (1, 3, 0), (0, 1, 2), (2, 3, 0)]
        );
    }

    /// Two workers of one machine, in one process.
    #[tokio::test]
    async fn ranks_learn_each_other_s_ports() {
        let hosts = [0, 1].map(|_| Arc::new(Host::for_test()));
        let mut given = assignment(&exec_spec(&["true"]));
        given.rendezvous_token = "secret".to_owned();
        given.ranks = (0..2u32)
            .map(|rank| Rank {
                rank,
                worker_id: format!("worker-{rank}"),
                slots: vec![0],
                collective_address: hosts[rank as usize].rendezvous.local_addr().to_string(),
            })
            .collect();
        let meet = |rank: u32| {
            let given = Assignment {
                rank,
                ..given.clone()
            };
            let key = AttemptKey::of_assignment(&given);
            let reporter = Reporter::new(key, Arc::default(), Arc::new(Outbox::new(8)));
            let host = hosts[rank as usize].clone();
            async move {
                let task = Task::read(given, &host).unwrap();
                let gang = Gang::meet(&task, &reporter, &host).await.unwrap();
                let environment = gang.environment(&task);
                (gang, environment)
            }
        };
        let ((zero, of_zero), (one, of_one)) = tokio::join!(meet(0), meet(1));
        assert_eq!(zero.ports, one.ports);
        assert!(zero.ports[0] != zero.ports[1]);
        let value = |of: &[(&str, String)], name| {
            let found = of.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        for of in [&of_zero, &of_one] {
            assert_eq!(value(of, "MASTER_PORT"), zero.ports[0].to_string());
            assert_eq!(value(of, "MASTER_ADDR"), "127.0.0.1");
            assert_eq!(value(of, "LOCAL_WORLD_SIZE"), "1");
            let jax = format!("127.0.0.1:{}", zero.ports[0]);
            assert_eq!(value(of, "JAX_COORDINATOR_ADDRESS"), jax);
        }
        assert_eq!(value(&of_one, "RANK"), "1");
        let ports = &zero.ports;
        let expected = format!(
            r#"{{"cluster":{{"worker":["127.0.0.1:{}","127.0.0.1:{}"]}},"task":{{"index":1,"type":"worker"}}}}"#,
            ports[0], ports[1]
        );
        let (told, expected): (serde_json::Value, serde_json::Value) = (
            serde_json::from_str(&value(&of_one, "TF_CONFIG")).unwrap(),
            serde_json::from_str(&expected).unwrap(),
        );
        assert_eq!(told, expected);
    }

    #[test]
    fn a_port_is_nobody_else_s_until_it_is_given_back() {
        // Each looks at what the others have first.
        let ports: Vec<Port> = (0..50).filter_map(|_| Port::reserve_from(7)).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(|port| port.0).collect();
        assert_eq!(numbers.len(), 50);
        // Free for the program.
        TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0].0)).unwrap();
        let first = ports[0].0;
        drop(ports);
        let reserved = RESERVED.lock().unwrap();
        assert!(!reserved.contains(&first));
    }
}
