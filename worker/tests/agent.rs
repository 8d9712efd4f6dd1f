//! A worker beside a fake coordinator: sessions lost and found, reports neither lost nor doubled,
//! attempts stopped, abandoned and handed over.

#![allow(clippy::unwrap_used)] // Helpers of tests: what fails in them fails the test.

mod fake;

use std::time::Duration;

use fake::FakeCoordinator;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use trainyard_common::spec::{EntrypointSpec, JobSpec, TrialSpec};
use trainyard_proto::v1::coordinator_message::Message as Tell;
use trainyard_proto::v1::{
    Assignment, AssignmentKind, AttemptOutcome, ProbeStore, Rank, RunningAttempt, StopAttempt,
};
use trainyard_worker::agent::{self, WorkerError};
use trainyard_worker::config::{Programs, WorkerConfig};

struct Worker {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

impl Worker {
    fn start(coordinator: &FakeCoordinator, change: impl FnOnce(&mut WorkerConfig)) -> Self {
        let mut config = WorkerConfig::for_coordinator(&coordinator.address);
        config.name = Some("box".to_owned());
        config.programs = Programs::Allow;
        change(&mut config);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(agent::run(config, shutdown.clone()));
        Self { shutdown, task }
    }

    async fn leave(self) -> Result<(), WorkerError> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }
}

fn exec(trial: u32, generation: u64, script: &str) -> Assignment {
    let mut job: JobSpec = serde_json::from_str(r#"{"name": "job"}"#).unwrap();
    job.entrypoint = Some(EntrypointSpec {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..EntrypointSpec::default()
    });
    let spec = TrialSpec {
        job,
        params: Default::default(),
        trial_seed: 1,
        checkpoint_url: "file:///nowhere".to_owned(),
        bundle_url: None,
        virtual_shards: 1,
    };
    Assignment {
        job_id: "job-1".to_owned(),
        trial_id: trial,
        generation,
        ranks: vec![Rank {
            slots: vec![0],
            ..Rank::default()
        }],
        trial_spec_json: serde_json::to_string(&spec).unwrap(),
        kind: AssignmentKind::Train.into(),
        ..Assignment::default()
    }
}

fn stop(of: &Assignment, checkpoint: bool) -> Tell {
    Tell::Stop(StopAttempt {
        job_id: of.job_id.clone(),
        trial_id: of.trial_id,
        attempt: of.attempt,
        generation: of.generation,
        checkpoint,
        why: String::new(),
    })
}

/// Prints metrics, then waits to be stopped.
const METRICS_THEN_WAIT: &str =
    r#"echo '{"metrics":{"loss":1}}'; echo '{"metrics":{"loss":2}}'; exec sleep 1000"#;
const METRICS_THEN_END: &str = r#"for i in 1 2 3; do echo '{"metrics":{"loss":'$i'}}'; done"#;

#[tokio::test]
async fn registers_heartbeats_runs_and_reports_in_order() {
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |config| config.slots = 2);
    let seen = coordinator
        .until("a heartbeat", |seen| seen.heartbeats > 1)
        .await;
    let register = &seen.registers[0];
    assert!(register.worker_id.starts_with("box-"), "{register:?}");
    assert_eq!(register.devices, ["cpu", "cpu"]);
    assert!(!register.collective_address.ends_with(":0"), "{register:?}");
    assert!(!register.cpu_kind.is_empty(), "{register:?}");

    coordinator
        .tell(Tell::Assignment(exec(0, 1, METRICS_THEN_END)))
        .await;
    let seen = coordinator
        .until("an end", |seen| seen.ends().len() == 1)
        .await;
    assert_eq!(seen.story(), "seeeE");
    let sequences: Vec<u64> = seen.arrived.iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    assert_eq!(seen.ends()[0].outcome(), AttemptOutcome::Completed);
    assert_eq!(seen.ends()[0].step, 3);

    worker.leave().await.unwrap();
    assert!(coordinator.seen().leaving);
}

#[tokio::test]
async fn a_broken_session_is_replayed_without_loss_or_doubling() {
    let coordinator = FakeCoordinator::start().await;
    coordinator.set(|settings| settings.acknowledge = false);
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    coordinator
        .tell(Tell::Assignment(exec(0, 1, METRICS_THEN_END)))
        .await;
    coordinator
        .until("an end", |seen| seen.ends().len() == 1)
        .await;
    // Nothing was acknowledged: a new session, of a newer leader, hears it all again.
    coordinator.set(|settings| {
        settings.acknowledge = true;
        settings.term = 2;
    });
    coordinator.drop_session();
    let seen = coordinator
        .until("the replay", |seen| seen.arrived.len() >= 10)
        .await;
    let sequences: Vec<u64> = seen.arrived.iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]);
    assert_eq!(seen.arrived[..5], seen.arrived[5..]);
    assert_eq!(seen.registers[0].worker_id, seen.registers[1].worker_id);
    // The end was not known to the coordinator: the attempt is still told as ours.
    assert_eq!(seen.registers[1].running.len(), 1);
    assert_eq!(seen.registers[1].term, 1);
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn an_attempt_goes_on_while_the_coordinator_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("go");
    let script = format!(
        r#"echo '{{"metrics":{{"loss":1}}}}'; until [ -e {} ]; do sleep 0.01; done; echo '{{"metrics":{{"loss":2}}}}'"#,
        flag.display()
    );
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    coordinator
        .tell(Tell::Assignment(exec(0, 1, &script)))
        .await;
    coordinator
        .until("an epoch", |seen| seen.story() == "se")
        .await;
    coordinator.set(|settings| settings.refuse = Some(Status::unavailable("starting")));
    coordinator.drop_session();
    std::fs::write(&flag, "").unwrap();
    coordinator.set(|settings| settings.refuse = None);
    let seen = coordinator
        .until("an end", |seen| seen.ends().len() == 1)
        .await;
    assert_eq!(seen.story(), "seeE");
    assert_eq!(seen.registers[1].running[0].trial_id, 0);
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn stops_are_obeyed_and_slots_are_given_back() {
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    for (trial, checkpoint, outcome) in [
        (0, false, AttemptOutcome::Cancelled),
        (1, true, AttemptOutcome::Preempted),
    ] {
        let assignment = exec(trial, 1, METRICS_THEN_WAIT);
        let count = trial as usize;
        coordinator.tell(Tell::Assignment(assignment.clone())).await;
        let waiting = format!("{}see", "seeE".repeat(count));
        coordinator
            .until("two epochs", |seen| seen.story() == waiting)
            .await;
        // Another generation's stop is not meant for this one.
        let other = Assignment {
            generation: 9,
            ..assignment.clone()
        };
        coordinator.tell(stop(&other, true)).await;
        coordinator.tell(stop(&assignment, checkpoint)).await;
        let seen = coordinator
            .until("an end", |seen| seen.ends().len() == count + 1)
            .await;
        assert_eq!(seen.ends()[count].outcome(), outcome);
    }
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn abandoned_attempts_stop_and_say_nothing() {
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    coordinator
        .tell(Tell::Assignment(exec(7, 1, METRICS_THEN_WAIT)))
        .await;
    coordinator
        .until("two epochs", |seen| seen.story() == "see")
        .await;
    coordinator.set(|settings| {
        settings.abandon = vec![RunningAttempt {
            job_id: "job-1".to_owned(),
            trial_id: 7,
            generation: 1,
            ..RunningAttempt::default()
        }];
    });
    coordinator.drop_session();
    coordinator
        .until("a second session", |seen| seen.registers.len() == 2)
        .await;
    // The one slot is free again only once the abandoned program is gone.
    coordinator.tell(Tell::Assignment(exec(8, 1, "true"))).await;
    let seen = coordinator
        .until("the next trial", |seen| seen.ends().len() == 1)
        .await;
    assert_eq!(seen.story(), "seesE");
    assert_eq!(seen.reports().last().unwrap().trial_id, 8);
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn a_newer_generation_overtakes_and_an_assignment_twice_runs_once() {
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    let first = exec(0, 1, METRICS_THEN_WAIT);
    coordinator.tell(Tell::Assignment(first.clone())).await;
    coordinator.tell(Tell::Assignment(first.clone())).await;
    coordinator
        .until("two epochs", |seen| seen.story() == "see")
        .await;
    coordinator.tell(Tell::Assignment(exec(0, 2, "true"))).await;
    let seen = coordinator
        .until("both ends", |seen| seen.ends().len() == 2)
        .await;
    // The older one's, too: the coordinator keeps its slot until it has heard it.
    assert_eq!(seen.story(), "seeEsE");
    assert_eq!(seen.ends()[0].outcome(), AttemptOutcome::Cancelled);
    assert_eq!(seen.reports().last().unwrap().generation, 2);
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn a_leaving_worker_hands_its_attempts_over() {
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    coordinator
        .tell(Tell::Assignment(exec(0, 1, METRICS_THEN_WAIT)))
        .await;
    coordinator
        .until("two epochs", |seen| seen.story() == "see")
        .await;
    worker.leave().await.unwrap();
    let seen = coordinator.seen();
    assert!(seen.leaving);
    assert_eq!(seen.story(), "seeE");
    assert_eq!(seen.ends()[0].outcome(), AttemptOutcome::Preempted);
    assert!(seen.log.contains("attempt ended"), "{}", seen.log);
}

#[tokio::test]
async fn leaving_without_an_acknowledgement_says_what_is_missing() {
    let coordinator = FakeCoordinator::start().await;
    coordinator.set(|settings| settings.acknowledge = false);
    let worker = Worker::start(&coordinator, |config| config.drain_grace_ms = 1_000);
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    coordinator.tell(Tell::Assignment(exec(0, 1, "true"))).await;
    coordinator
        .until("an end", |seen| seen.ends().len() == 1)
        .await;
    let error = worker.leave().await.unwrap_err();
    assert!(
        error.to_string().contains("2 reports not acknowledged"),
        "{error}"
    );
}

#[tokio::test]
async fn a_leader_of_the_past_is_refused() {
    let coordinator = FakeCoordinator::start().await;
    coordinator.set(|settings| settings.term = 5);
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    coordinator.set(|settings| settings.term = 4);
    coordinator.tell(Tell::Assignment(exec(0, 1, "true"))).await;
    // The worker breaks the session off and tells its term at the next.
    let seen = coordinator
        .until("another session", |seen| seen.registers.len() > 1)
        .await;
    assert_eq!(seen.registers[1].term, 5);
    assert_eq!(seen.story(), "");
    coordinator.set(|settings| settings.term = 6);
    let sessions = coordinator.seen().registers.len();
    coordinator
        .until("heartbeats for the new leader", |seen| {
            seen.registers.len() > sessions || seen.registers.last().unwrap().term >= 5
        })
        .await;
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn a_refusal_or_a_wrong_address_ends_the_worker_clearly() {
    let coordinator = FakeCoordinator::start().await;
    coordinator.set(|s| s.refuse = Some(Status::invalid_argument("version 9 is too new")));
    let worker = Worker::start(&coordinator, |_| {});
    let error = worker.task.await.unwrap().unwrap_err();
    assert!(matches!(error, WorkerError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("version 9 is too new"),
        "{error}"
    );

    // A port on which nothing listens any more.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut config = WorkerConfig::for_coordinator(&address);
    config.connect_timeout_s = 1;
    let error = agent::run(config, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, WorkerError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn bad_assignments_fail_their_attempt_and_nothing_else() {
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    let good = exec(0, 1, "true");
    let memory = good
        .trial_spec_json
        .replace("file:///nowhere", "memory://x");
    let table = [
        (
            Assignment {
                trial_id: 1,
                trial_spec_json: "{}".into(),
                ..good.clone()
            },
            "spec",
        ),
        (
            Assignment {
                trial_id: 2,
                rank: 4,
                ..good.clone()
            },
            "rank 4",
        ),
        (
            Assignment {
                trial_id: 3,
                trial_spec_json: memory,
                ..good.clone()
            },
            "memory://x",
        ),
    ];
    for (count, (assignment, word)) in table.into_iter().enumerate() {
        coordinator.tell(Tell::Assignment(assignment)).await;
        let seen = coordinator
            .until("an end", |seen| seen.ends().len() == count + 1)
            .await;
        let end = &seen.ends()[count];
        assert_eq!(end.outcome(), AttemptOutcome::Error);
        assert!(end.error.contains(word), "{word}: {end:?}");
    }
    coordinator.tell(Tell::Assignment(good)).await;
    let seen = coordinator
        .until("the good one", |seen| seen.ends().len() == 4)
        .await;
    assert_eq!(seen.ends()[3].outcome(), AttemptOutcome::Completed);
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_was_not_started_for_programs_says_so_and_runs_none() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("ran");
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |config| {
        config.programs = WorkerConfig::default().programs;
    });
    let seen = coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    assert_eq!(seen.registers[0].programs, Some(false));
    // The coordinator's word is not enough.
    let script = format!("touch {}", witness.display());
    coordinator
        .tell(Tell::Assignment(exec(0, 1, &script)))
        .await;
    let seen = coordinator
        .until("an end", |seen| seen.ends().len() == 1)
        .await;
    let end = &seen.ends()[0];
    assert_eq!(end.outcome(), AttemptOutcome::Error);
    for word in ["entrypoint", "--programs allow", "TRAINYARD_PROGRAMS"] {
        assert!(end.error.contains(word), "{word}: {end:?}");
    }
    worker.leave().await.unwrap();
    assert!(!witness.exists(), "the program ran");
    let allowed = FakeCoordinator::start().await;
    let worker = Worker::start(&allowed, |_| {});
    let seen = allowed
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    assert_eq!(seen.registers[0].programs, Some(true));
    worker.leave().await.unwrap();
}

#[tokio::test]
async fn stores_are_probed() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    std::fs::write(folder.path().join("probe"), "abc").unwrap();
    let coordinator = FakeCoordinator::start().await;
    let worker = Worker::start(&coordinator, |_| {});
    coordinator
        .until("registration", |seen| seen.registers.len() == 1)
        .await;
    let probe = |url: &str, path: &str| {
        Tell::ProbeStore(ProbeStore {
            url: url.to_owned(),
            path: path.to_owned(),
            content: "abc".to_owned(),
            reply_path: "reply".to_owned(),
        })
    };
    let table = [
        (url.as_str(), "probe", true),
        (&url, "absent", false),
        ("memory://x", "probe", false),
    ];
    for (count, (url, path, fine)) in table.into_iter().enumerate() {
        coordinator.tell(probe(url, path)).await;
        let seen = coordinator
            .until("an answer", |seen| seen.probed.len() == count + 1)
            .await;
        let probed = &seen.probed[count];
        assert_eq!((probed.url.as_str(), probed.path.as_str()), (url, path));
        assert_eq!(probed.error.is_empty(), fine, "{probed:?}");
    }
    let reply = std::fs::read_to_string(folder.path().join("reply")).unwrap();
    assert_eq!(reply, "cba");
    let left = tokio::time::timeout(Duration::from_secs(30), worker.leave());
    left.await.unwrap().unwrap();
}

#[tokio::test]
async fn probes_are_told_whether_a_coordinator_has_taken_the_worker_in() {
    let coordinator = FakeCoordinator::start().await;
    // Another process could take the port in between; none of ours does.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    coordinator.set(|settings| settings.refuse = Some(Status::unavailable("not yet")));
    let worker = Worker::start(&coordinator, |config| {
        config.health_bind = Some(address.clone());
    });
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut probe = HealthClient::new(endpoint.connect_lazy());
    let mut until = async |service: &str, expected: ServingStatus| {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let seen = async {
            loop {
                match probe.check(request.clone()).await {
                    Ok(answer) if answer.get_ref().status == expected as i32 => break,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let met = tokio::time::timeout(Duration::from_secs(60), seen).await;
        met.unwrap_or_else(|_| panic!("waited in vain for {service:?} to be {expected:?}"));
    };
    let session = "trainyard.v1.WorkerService";
    until("", ServingStatus::Serving).await;
    until(session, ServingStatus::NotServing).await;
    coordinator.set(|settings| settings.refuse = None);
    until(session, ServingStatus::Serving).await;
    coordinator.set(|settings| settings.refuse = Some(Status::unavailable("again not")));
    coordinator.drop_session();
    until(session, ServingStatus::NotServing).await;
    // A coordinator that is away is no reason to restart the worker.
    until("", ServingStatus::Serving).await;
    coordinator.set(|settings| settings.refuse = None);
    until(session, ServingStatus::Serving).await;
    worker.leave().await.unwrap();
}
