//! A coordinator and a worker that trains nothing, over real sockets: from `submit` to a judged job.

mod support;

use support::{FakeWorker, Local, client, ended, job, progress, saved, soon, submit};
use tonic::Code;
use trainyard_proto::v1::worker_message::Message as Told;
use trainyard_proto::v1::*;

#[tokio::test]
async fn a_job_is_searched_judged_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let job_id = submit(&mut client, "r-1", &job("whole", 2)).await.unwrap();
    let watch = client.watch_job(WatchJobRequest {
        job_id: job_id.clone(),
    });
    let mut watch = watch.await.unwrap().into_inner();

    let mut worker = FakeWorker::join(&coordinator.address, "w-1", 1).await;
    for (expected, accuracy) in [(0, 0.5), (1, 0.75)] {
        let assignment = worker.assignment().await;
        assert_eq!(assignment.kind(), AssignmentKind::Train);
        assert_eq!(assignment.trial_id, expected);
        assert_eq!(assignment.ranks.len(), 1);
        let spec: serde_json::Value = serde_json::from_str(&assignment.trial_spec_json).unwrap();
        assert!(spec["params"]["units"].is_number(), "{spec}");
        worker.finish(&assignment, accuracy).await;
    }
    let judge = worker.assignment().await;
    assert_eq!(judge.kind(), AssignmentKind::Evaluate);
    assert_eq!(judge.trial_id, 1, "the better trial is judged");
    let last = worker
        .report(&judge, ended(2, vec![("test_accuracy", 0.7)]))
        .await;
    worker.acknowledged(last).await;

    // The watcher sees the end, and then its stream ends.
    let mut states = Vec::new();
    while let Some(event) = soon("an event", watch.message()).await.unwrap() {
        if let Some(job_event::Event::Job(job)) = event.event {
            states.push(job.state());
        }
    }
    assert_eq!(states.last(), Some(&JobState::Completed), "{states:?}");

    let request = GetJobRequest {
        job_id: job_id.clone(),
    };
    let answer = client.get_job(request).await.unwrap().into_inner();
    let summary = answer.job.unwrap();
    assert_eq!(summary.state(), JobState::Completed);
    assert_eq!(
        (summary.best_trial, summary.best_value),
        (Some(1), Some(0.75))
    );
    assert_eq!(summary.trials_completed, 2);
    assert_eq!(summary.test_metrics[0].name, "test_accuracy");
    let spec: serde_json::Value = serde_json::from_str(&answer.spec_json).unwrap();
    assert_eq!(spec["name"], "whole");

    let request = GetTrialRequest {
        job_id: job_id.clone(),
        trial_id: 1,
        ..Default::default()
    };
    let trial = client.get_trial(request).await.unwrap().into_inner();
    let steps: Vec<_> = trial.points.iter().map(|point| point.step).collect();
    assert_eq!(steps, [10, 20]);
    assert_eq!(trial.trial.unwrap().attempts.len(), 1);
    let request = ListCheckpointsRequest {
        job_id: job_id.clone(),
        trial_id: Some(1),
        ..Default::default()
    };
    let listed = client.list_checkpoints(request).await.unwrap().into_inner();
    assert!(listed.checkpoint_url.starts_with("file://"), "{listed:?}");
    let latest = listed.checkpoints.iter().find(|c| c.latest).unwrap();
    assert_eq!(latest.checkpoint.as_ref().unwrap().step, 20);
    assert!(listed.checkpoints.iter().any(|c| c.best));
    drop(worker);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_repeated_submit_makes_one_job_and_a_repeated_report_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let first = submit(&mut client, "r-1", &job("once", 1)).await.unwrap();
    let again = submit(&mut client, "r-1", &job("once", 1)).await.unwrap();
    assert_eq!(first, again);
    let other = submit(&mut client, "r-2", &job("once", 1)).await.unwrap();
    assert_ne!(first, other);
    let listed = client.list_jobs(ListJobsRequest::default()).await.unwrap();
    let ids: Vec<_> = listed
        .into_inner()
        .jobs
        .into_iter()
        .map(|j| j.job_id)
        .collect();
    assert_eq!(ids, [other, first.clone()], "newest first");

    let mut worker = FakeWorker::join(&coordinator.address, "w-1", 1).await;
    let assignment = worker.assignment().await;
    worker.report(&assignment, progress(1, 0.5)).await;
    let last = worker.report(&assignment, saved(&assignment, 1, 0.5)).await;
    worker.acknowledged(last).await;
    let replayed = vec![
        worker.numbered(1, &assignment, progress(1, 0.5)),
        worker.numbered(2, &assignment, saved(&assignment, 1, 0.5)),
    ];
    worker
        .tell(Told::Reports(ReportBatch { reports: replayed }))
        .await;
    let last = worker.report(&assignment, progress(2, 0.5)).await;
    worker.acknowledged(last).await;
    let request = GetTrialRequest {
        job_id: assignment.job_id.clone(),
        trial_id: assignment.trial_id,
        ..Default::default()
    };
    let trial = client.get_trial(request).await.unwrap().into_inner();
    let steps: Vec<_> = trial.points.iter().map(|point| point.step).collect();
    assert_eq!(steps, [10, 20]);
    coordinator.stop().await;
}

#[tokio::test]
async fn logs_follow_without_gaps() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let job_id = submit(&mut client, "r-1", &job("logs", 1)).await.unwrap();
    let mut worker = FakeWorker::join(&coordinator.address, "w-1", 1).await;
    let assignment = worker.assignment().await;
    let request = |after_sequence, follow| StreamLogsRequest {
        job_id: job_id.clone(),
        trial_id: Some(0),
        follow,
        after_sequence,
        positions: Vec::new(),
    };
    let mut all = client
        .stream_logs(request(0, true))
        .await
        .unwrap()
        .into_inner();
    let mut late = client
        .stream_logs(request(2, true))
        .await
        .unwrap()
        .into_inner();
    worker.logs(&assignment, &["one", "two"]).await;
    for (sequence, text) in [(1, "one"), (2, "two")] {
        let line = soon("a line", all.message()).await.unwrap().unwrap();
        assert_eq!((line.sequence, line.text.as_str()), (sequence, text));
    }
    worker.logs(&assignment, &["three"]).await;
    worker.logs(&assignment, &["four"]).await;
    worker.finish(&assignment, 0.5).await;
    let mut rest = Vec::new();
    while let Some(line) = soon("a line", all.message()).await.unwrap() {
        rest.push((line.sequence, line.text));
    }
    let expected = [(3, "three".to_owned()), (4, "four".to_owned())];
    assert_eq!(rest, expected);
    let mut rest = Vec::new();
    while let Some(line) = soon("a line", late.message()).await.unwrap() {
        rest.push((line.sequence, line.text));
    }
    assert_eq!(rest, expected);
    let mut stored = client
        .stream_logs(request(3, false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stored.message().await.unwrap().unwrap().text, "four");
    assert!(stored.message().await.unwrap().is_none());
    coordinator.stop().await;
}

#[tokio::test]
async fn bad_requests_get_one_clear_status() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let spec = job("bad", 1)
        .replace("epochs", "epoch")
        .replace("mode", "mod");
    let status = submit(&mut client, "r-1", &spec).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("epoch"), "{status}");
    let status = submit(&mut client, "", &job("good", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("request id"), "{status}");
    let memory = format!(
        "{}checkpoint_storage: {{url: \"memory://x/y\"}}\n",
        job("m", 1)
    );
    let status = submit(&mut client, "r-2", &memory).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("memory://"), "{status}");
    let job_id = "none-1".to_owned();
    let status = client
        .watch_job(WatchJobRequest {
            job_id: job_id.clone(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("none-1"), "{status}");
    let request = CancelJobRequest {
        request_id: "r-3".to_owned(),
        job_id,
    };
    let status = client.cancel_job(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let status = client.get_job(GetJobRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let listed = client.list_jobs(ListJobsRequest::default()).await.unwrap();
    assert!(listed.into_inner().jobs.is_empty());
    coordinator.stop().await;
}

#[tokio::test]
async fn workers_that_break_the_protocol_are_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    // One that has obeyed a newer leader.
    let refused = FakeWorker::register(&coordinator.address, "w-1", 1, Vec::new(), 99).await;
    let status = refused.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("99"), "{status}");
    // One without slots.
    let refused = FakeWorker::register(&coordinator.address, "w-1", 0, Vec::new(), 0).await;
    assert_eq!(refused.err().unwrap().code(), Code::InvalidArgument);
    // More reports than a batch may have; their unknown content alone would be skipped.
    let worker = FakeWorker::join(&coordinator.address, "w-1", 1).await;
    let reports = vec![Report::default(); trainyard_proto::MAX_REPORTS_PER_BATCH + 1];
    worker.tell(Told::Reports(ReportBatch { reports })).await;
    let status = worker.ended().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    // A second session of one worker replaces the first.
    let first = FakeWorker::join(&coordinator.address, "w-2", 1).await;
    let second = FakeWorker::join(&coordinator.address, "w-2", 1).await;
    assert_eq!(first.ended().await.code(), Code::Aborted);
    let mut client = client(&coordinator.address).await;
    let listed = client
        .list_workers(ListWorkersRequest::default())
        .await
        .unwrap();
    let connected: Vec<_> = listed
        .into_inner()
        .workers
        .into_iter()
        .filter(|worker| worker.connected)
        .map(|worker| worker.worker_id)
        .collect();
    assert_eq!(connected, ["w-2"]);
    // The coordinator's own end is told as something that passes.
    let (status, ()) = tokio::join!(second.ended(), coordinator.stop());
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_refused_report_fails_its_attempt_and_nothing_behind_it_waits() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let mut worker = FakeWorker::join(&coordinator.address, "w-1", 2).await;
    let spec = format!("{}max_restarts: 0\n", job("refused", 1));
    let refused = submit(&mut client, "r-1", &spec).await.unwrap();
    let poisoned = worker.assignment().await;
    let other = submit(&mut client, "r-2", &job("other", 1)).await.unwrap();
    let healthy = worker.assignment().await;
    assert_eq!((&poisoned.job_id, &healthy.job_id), (&refused, &other));
    worker.report(&poisoned, progress((1 << 53) + 1, 0.5)).await;
    let last = worker.report(&healthy, progress(1, 0.5)).await;
    // It is told to stop meanwhile, too.
    while worker.acknowledged < last {
        worker.hear().await;
    }

    let request = GetTrialRequest {
        job_id: refused,
        ..Default::default()
    };
    let trial = client.get_trial(request).await.unwrap().into_inner();
    let attempt = &trial.trial.unwrap().attempts[0];
    assert_eq!(attempt.outcome(), AttemptOutcome::Error);
    assert!(
        attempt.error.contains("step: 90071992547409930 given"),
        "{attempt:?}"
    );
    worker.report(&poisoned, ended(0, Vec::new())).await;
    worker.finish(&healthy, 0.5).await;
    drop(worker);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_store_that_a_worker_cannot_use_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let mut worker = FakeWorker::join(&coordinator.address, "w-1", 1).await;
    worker.store_fault = Some("no such bucket".to_owned());
    let job_id = submit(&mut client, "r-1", &job("store", 1)).await.unwrap();
    let watch = client.watch_job(WatchJobRequest { job_id });
    let mut watch = watch.await.unwrap().into_inner();
    let told = async {
        while let Some(event) = watch.message().await.unwrap() {
            if let Some(job_event::Event::Job(job)) = event.event
                && job.note.contains("no such bucket")
            {
                return job;
            }
        }
        panic!("the watch ended");
    };
    let told = tokio::select! {
        told = soon("the reason", told) => told,
        assignment = worker.assignment() => panic!("placed all the same: {assignment:?}"),
    };
    assert_eq!(told.state(), JobState::Pending);
    coordinator.stop().await;
}
