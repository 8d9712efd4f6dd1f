//! The ranks of a program waiting for each other where what they need may take long to be there: code that one worker
//! has and another fetches, packages that one worker installs.
//!
//! They meet first, as soon as ranks always do, and stay connected while each prepares: whoever waits sees by the
//! connection that another is gone, and waits for one that is not.

use std::sync::Arc;
use std::time::Duration;

use trainyard_common::spec::EntrypointSpec;

use super::gang::ANY_KIND;
use crate::attempt::End;
use crate::collective::{Cancel, CollectiveError, Group, Timeouts};
use crate::outbox::Reporter;
use crate::runner::gather::{gather_for, parted};
use crate::runner::{Host, Task};

/// Longest that another rank may prepare, its connection alive: waiting for whoever makes an environment (an hour), and then
/// making it itself (two steps of an hour at most).
const MOST: Duration = Duration::from_secs(4 * 3_600);
/// While others prepare, that this rank waits is no standstill.
const SIGN_EVERY: Duration = Duration::from_secs(1);

/// The ranks of an attempt, connected; alone, where none has to wait.
pub(super) struct Together {
    group: Option<Box<dyn Group>>,
    cancel: Cancel,
}

impl Together {
    /// Meets the other ranks, where preparing may take long.
    ///
    /// # Errors
    /// The attempt's end, where one does not come.
    pub(super) async fn meet(
        task: &Task,
        reporter: &Reporter,
        host: &Arc<Host>,
    ) -> Result<Self, End> {
        let cancel = Cancel::new();
        let entrypoint = task.spec.job.entrypoint.as_ref();
        if task.assignment.ranks.len() == 1 || !entrypoint.is_some_and(takes_long) {
            let group = None;
            return Ok(Self { group, cancel });
        }
        let (assignment, key) = (task.assignment.clone(), reporter.key.clone());
        let (host, switch) = (host.clone(), cancel.clone());
        let meeting = move || {
            let timeouts = Timeouts {
                stall: MOST,
                ..Timeouts::default()
            };
            let kind = ANY_KIND.to_owned();
            gather_for(&assignment, &key, &host, &switch, kind, timeouts)
        };
        let group = waited(meeting, &cancel, reporter).await?;
        Ok(Self {
            group: Some(group),
            cancel,
        })
    }

    /// Waits until all ranks have what they start with.
    ///
    /// # Errors
    /// The attempt's end, where one of them is gone.
    pub(super) async fn all_prepared(self, reporter: &Reporter) -> Result<(), End> {
        let Some(mut group) = self.group else {
            return Ok(());
        };
        waited(move || group.barrier(), &self.cancel, reporter).await
    }

    /// Leaves the others, who see it at once.
    pub(super) async fn leave(self) {
        // Its connections' threads end with it.
        let left = tokio::task::spawn_blocking(move || drop(self.group)).await;
        if let Err(error) = left {
            tracing::warn!(%error, "leaving the other ranks broke off");
        }
    }
}

/// Whether ranks may be ready at very different times.
fn takes_long(entrypoint: &EntrypointSpec) -> bool {
    let python = entrypoint.python.as_ref();
    entrypoint.is_shipped() || python.is_some_and(|python| python.requirements.is_some())
}

/// Waits for others on a thread of its own, alive meanwhile, until this attempt is to stop.
async fn waited<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CollectiveError> + Send + 'static,
    cancel: &Cancel,
    reporter: &Reporter,
) -> Result<T, End> {
    let mut waiting = tokio::task::spawn_blocking(work);
    let waited = loop {
        tokio::select! {
            waited = &mut waiting => break waited,
            () = reporter.stop.requested(), if !cancel.is_cancelled() => cancel.cancel(),
            () = tokio::time::sleep(SIGN_EVERY) => reporter.activity.sign(),
        }
    };
    match (waited, reporter.stop.get()) {
        (_, Some(stop)) => Err(End::stopped(stop, 0)),
        (Ok(Ok(done)), None) => Ok(done),
        (Ok(Err(error)), None) => Err(parted(error, reporter).await),
        (Err(error), None) => Err(End::error(format!("the ranks could not meet: {error}"), 0)),
    }
}

#[cfg(test)]
mod tests {
    use trainyard_proto::v1::{Assignment, AttemptOutcome, Rank};

    use super::*;
    use crate::attempt::{AttemptKey, Stop, StopSignal};
    use crate::outbox::Outbox;
    use crate::runner::testing::{assignment, exec_spec};

    /// Two ranks of shipped code that have met, each on a worker of its own.
    async fn met() -> [(Together, Reporter, Arc<StopSignal>); 2] {
        let hosts = [0, 1].map(|_| Arc::new(Host::for_test()));
        let mut spec = exec_spec(&["true"]);
        spec.job.entrypoint.as_mut().unwrap().bundle = Some("0f".repeat(32));
        let mut given = assignment(&spec);
        given.rendezvous_token = "secret".to_owned();
        given.ranks = (0..2u32)
            .map(|rank| Rank {
                rank,
                worker_id: format!("worker-{rank}"),
                slots: vec![0],
                collective_address: hosts[rank as usize].rendezvous.local_addr().to_string(),
            })
            .collect();
        let meet = async |rank: u32| {
            let given = Assignment {
                rank,
                ..given.clone()
            };
            let (key, stop) = (
                AttemptKey::of_assignment(&given),
                Arc::<StopSignal>::default(),
            );
            let reporter = Reporter::new(key, stop.clone(), Arc::new(Outbox::new(8)));
            let host = hosts[rank as usize].clone();
            let task = Task::read(given, &host).unwrap();
            let together = Together::meet(&task, &reporter, &host).await.unwrap();
            assert!(together.group.is_some());
            (together, reporter, stop)
        };
        tokio::join!(meet(0), meet(1)).into()
    }

    /// Whoever waits shows signs of life; nothing bounds it but the connection.
    async fn waits(reporter: &Reporter) {
        let before = reporter.activity.read().1;
        while reporter.activity.read().1 < before + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn who_is_ready_waits_for_who_prepares() {
        let [(zero, of_zero, _), (one, of_one, _)] = met().await;
        let mut ready = std::pin::pin!(one.all_prepared(&of_one));
        tokio::select! {
            end = &mut ready => panic!("{end:?}"),
            () = waits(&of_one) => {}
        }
        let (zero, one) = tokio::join!(zero.all_prepared(&of_zero), ready);
        assert!(zero.is_ok() && one.is_ok(), "{zero:?} {one:?}");
    }

    #[tokio::test]
    async fn a_rank_that_is_lost_meanwhile_ends_it() {
        let [(zero, ..), (one, of_one, _)] = met().await;
        zero.leave().await;
        let end = one.all_prepared(&of_one).await.unwrap_err();
        assert_eq!(end.outcome, AttemptOutcome::NodeLost);
        assert!(end.error.contains("rank 0 was lost"), "{}", end.error);
    }

    #[tokio::test]
    async fn who_is_told_to_stop_waits_no_longer() {
        let [(zero, ..), (one, of_one, stop)] = met().await;
        let mut ready = std::pin::pin!(one.all_prepared(&of_one));
        tokio::select! {
            end = &mut ready => panic!("{end:?}"),
            () = waits(&of_one) => stop.request(Stop::Checkpoint),
        }
        let end = ready.await.unwrap_err();
        assert_eq!(end.outcome, AttemptOutcome::Preempted);
        drop(zero);
    }

    #[tokio::test]
    async fn nobody_meets_whose_program_is_there() {
        let host = Arc::new(Host::for_test());
        let given = assignment(&exec_spec(&["true"]));
        let key = AttemptKey::of_assignment(&given);
        let reporter = Reporter::new(key, Arc::default(), Arc::new(Outbox::new(8)));
        let task = Task::read(given, &host).unwrap();
        let together = Together::meet(&task, &reporter, &host).await.unwrap();
        assert!(together.group.is_none() && together.all_prepared(&reporter).await.is_ok());
    }
}
