//! Ended jobs leave the records of a real coordinator: into an archive that still answers, and for good.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use support::{FakeWorker, Local, client, ended, job, soon, submit};
use tonic::transport::Channel;
use tonic::{Code, Status};
use trainyard_proto::v1::job_service_client::JobServiceClient;
use trainyard_proto::v1::*;

type Client = JobServiceClient<Channel>;

/// Everything that is answered about a job.
#[derive(Debug, PartialEq)]
struct Answers {
    job: JobSummary,
    spec: String,
    trials: Vec<TrialSummary>,
    points: Vec<Vec<MetricPoint>>,
    decisions: Vec<Vec<Decision>>,
    logs: Vec<LogLine>,
    checkpoints: Vec<Checkpoint>,
    search: Vec<SearchLogEntry>,
}

async fn ask(client: &mut Client, job_id: &str) -> Result<Answers, Status> {
    let id = || job_id.to_owned();
    let found = client.get_job(GetJobRequest { job_id: id() }).await?;
    let found = found.into_inner();
    let (mut trials, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTrialsRequest {
            job_id: id(),
            page_size: 1,
            page_token,
        };
        let page = client.list_trials(request).await?.into_inner();
        trials.extend(page.trials);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let (mut points, mut decisions) = (Vec::new(), Vec::new());
    for trial in &trials {
        let request = GetTrialRequest {
            job_id: id(),
            trial_id: trial.trial_id,
            ..Default::default()
        };
        let answer = client.get_trial(request).await?.into_inner();
        assert_eq!(answer.trial.as_ref(), Some(trial));
        points.push(answer.points);
        let request = ExplainTrialRequest {
            job_id: id(),
            trial_id: trial.trial_id,
        };
        let answer = client.explain_trial(request).await?.into_inner();
        decisions.push(answer.decisions);
    }
    let request = StreamLogsRequest {
        job_id: id(),
        follow: true,
        ..Default::default()
    };
    let mut lines = client.stream_logs(request).await?.into_inner();
    let mut logs = Vec::new();
    while let Some(line) = soon("a line", lines.message()).await? {
        logs.push(line);
    }
    let request = ListCheckpointsRequest {
        job_id: id(),
        ..Default::default()
    };
    let checkpoints = client.list_checkpoints(request).await?.into_inner();
    Ok(Answers {
        job: found.job.unwrap_or_default(),
        spec: found.spec_json,
        trials,
        points,
        decisions,
        logs,
        checkpoints: checkpoints.checkpoints,
        search: searched(client, job_id).await?,
    })
}

/// The whole search log.
async fn searched(client: &mut Client, job_id: &str) -> Result<Vec<SearchLogEntry>, Status> {
    let mut search: Vec<SearchLogEntry> = Vec::new();
    loop {
        let request = GetSearchLogRequest {
            job_id: job_id.to_owned(),
            from: u32::try_from(search.len()).unwrap(),
        };
        let page = client.get_search_log(request).await?.into_inner().entries;
        if page.is_empty() {
            return Ok(search);
        }
        search.extend(page);
    }
}

/// Ids of the archived jobs, or of the others.
async fn listed(client: &mut Client, archived: bool) -> Vec<String> {
    let request = ListJobsRequest {
        archived,
        ..Default::default()
    };
    let jobs = client.list_jobs(request).await.unwrap().into_inner().jobs;
    jobs.into_iter().map(|job| job.job_id).collect()
}

/// Waits until the archived jobs are these.
async fn until_archived(client: &mut Client, expected: &[&str]) {
    soon("the archive", async {
        while listed(client, true).await != expected {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A completed job of two trials with two log lines each.
async fn completed(client: &mut Client, address: &str, name: &str, more: &str) -> String {
    completed_by(client, address, name, more).await.0
}

/// As above, with the worker that has done it and what it was told to do first.
async fn completed_by(
    client: &mut Client,
    address: &str,
    name: &str,
    more: &str,
) -> (String, FakeWorker, Assignment) {
    let spec = format!("{}{more}", job(name, 2));
    let job_id = submit(client, name, &spec).await.unwrap();
    let mut worker = FakeWorker::join(address, &format!("w-{name}"), 1).await;
    let mut assignments = Vec::new();
    for accuracy in [0.5, 0.75] {
        let assignment = worker.assignment().await;
        worker.logs(&assignment, &["one", "two"]).await;
        worker.finish(&assignment, accuracy).await;
        assignments.push(assignment);
    }
    let judge = worker.assignment().await;
    let last = worker
        .report(&judge, ended(2, vec![("test_accuracy", 0.7)]))
        .await;
    worker.acknowledged(last).await;
    (job_id, worker, assignments.swap_remove(0))
}

fn archive(job_id: &str) -> ArchiveJobRequest {
    ArchiveJobRequest {
        request_id: format!("archive {job_id}"),
        job_id: job_id.to_owned(),
    }
}

fn delete(job_id: &str, checkpoints: bool) -> DeleteJobRequest {
    DeleteJobRequest {
        request_id: format!("delete {job_id}"),
        job_id: job_id.to_owned(),
        force: false,
        checkpoints,
    }
}

#[tokio::test]
async fn an_archived_job_is_answered_for_as_before_until_it_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let kept = completed(&mut client, &coordinator.address, "kept", "").await;
    let other = completed(&mut client, &coordinator.address, "other", "").await;
    let mut before = ask(&mut client, &kept).await.unwrap();
    assert_eq!((before.trials.len(), before.logs.len()), (2, 4));
    assert_eq!(before.search.len(), 4, "two suggestions and two results");
    assert!(before.decisions.iter().all(|trial| trial.len() > 2));
    assert!(!before.checkpoints.is_empty());

    let answer = client.archive_job(archive(&kept)).await.unwrap();
    assert!(!answer.into_inner().archived);
    until_archived(&mut client, &[&kept]).await;
    let after = ask(&mut client, &kept).await.unwrap();
    assert!(after.job.archived_ms > 0);
    before.job.archived_ms = after.job.archived_ms;
    assert_eq!(after, before);
    assert_eq!(
        listed(&mut client, false).await,
        std::slice::from_ref(&other)
    );
    let extend = ExtendJobRequest {
        request_id: "e".to_owned(),
        job_id: kept.clone(),
        trials: 1,
        seconds: 0.0,
    };
    let refused = client.extend_job(extend).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("archived"), "{refused}");
    coordinator.stop().await;

    // Another process knows as much.
    let coordinator = Local::start(directory.path()).await;
    let mut client = support::client(&coordinator.address).await;
    assert_eq!(ask(&mut client, &kept).await.unwrap(), before);
    let answer = client.archive_job(archive(&kept)).await.unwrap();
    assert!(answer.into_inner().archived, "asked again");
    let archives = directory.path().join("archives").join(&kept);
    let objects = || std::fs::read_dir(&archives).into_iter().flatten().count();
    assert_eq!(objects(), 1);
    client.delete_job(delete(&kept, false)).await.unwrap();
    client.delete_job(delete(&kept, false)).await.unwrap();
    let gone = ask(&mut client, &kept).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    let files = || walk(&archives).len();
    soon("the archive to go", async {
        while files() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(ask(&mut client, &other).await.unwrap().logs.len(), 4);
    coordinator.stop().await;
}

/// Files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files
}

#[tokio::test]
async fn a_job_goes_with_its_checkpoints_only_where_that_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let first = completed(&mut client, &coordinator.address, "first", "").await;
    let second = completed(&mut client, &coordinator.address, "second", "").await;
    let mut places = Vec::new();
    for job_id in [&first, &second] {
        let url = ask(&mut client, job_id).await.unwrap().job.checkpoint_url;
        let folder = trainyard_common::store_url::local_path(&url).unwrap();
        std::fs::create_dir_all(folder.join("trials")).unwrap();
        std::fs::write(folder.join("trials/part"), "bytes").unwrap();
        places.push(folder);
    }
    client.delete_job(delete(&first, false)).await.unwrap();
    client.delete_job(delete(&second, true)).await.unwrap();
    soon("the checkpoints to go", async {
        while !walk(&places[1]).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(walk(&places[0]).len(), 1, "nobody asked for it");
    let running = submit(&mut client, "r", &job("running", 1)).await.unwrap();
    let refused = client
        .delete_job(delete(&running, false))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(listed(&mut client, false).await, [running]);
    coordinator.stop().await;
}

/// `retain: 0` in the spec: no sooner ended than archived, without anybody's asking.
#[tokio::test]
async fn a_job_is_archived_when_its_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let short = completed(&mut client, &coordinator.address, "short", "retain: 0\n").await;
    until_archived(&mut client, &[&short]).await;
    let answers = ask(&mut client, &short).await.unwrap();
    assert_eq!((answers.trials.len(), answers.logs.len()), (2, 4));
    coordinator.stop().await;
}

/// Over etcd, with the leader killed as soon as it has been asked.
#[cfg(feature = "etcd")]
mod killed {
    use trainyard_common::testing::EtcdCluster;

    use super::support::Process;
    use super::*;

    /// Keys in etcd that name a job, but for those of requests.
    async fn keys_of(cluster: &EtcdCluster, job_id: &str) -> Vec<String> {
        let mut etcd = etcd_client::Client::connect(cluster.endpoints(), None)
            .await
            .unwrap();
        let options = etcd_client::GetOptions::new()
            .with_prefix()
            .with_keys_only();
        let found = etcd.get("/trainyard/", Some(options)).await.unwrap();
        let keys = found
            .kvs()
            .iter()
            .map(|pair| pair.key_str().unwrap().to_owned());
        keys.filter(|key| key.contains(job_id) && !key.contains("/r/request/"))
            .collect()
    }

    /// A client of a coordinator that leads.
    async fn leader(process: &Process) -> Client {
        let mut client = client(&process.address).await;
        soon("the lead", async {
            while client.list_jobs(ListJobsRequest::default()).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        client
    }

    async fn until_left(cluster: &EtcdCluster, job_id: &str, expected: &[&str]) {
        soon("the records to go", async {
            while keys_of(cluster, job_id).await != expected {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// A line that is acknowledged while the job is not archived yet is in its archive, whenever that is
    /// copied.
    #[tokio::test]
    async fn late_lines_are_archived() {
        let Some(cluster) = EtcdCluster::start("late_lines_are_archived", 1) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let endpoints = cluster.endpoints().join(",");
        let checkpoints = directory.path().join("checkpoints").display().to_string();
        let flags = [
            "--etcd",
            &endpoints,
            "--checkpoint-url",
            &checkpoints,
            "--segment-flush-ms",
            "0",
        ];
        let process = Process::start_with(&directory.path().join("data"), &flags).await;
        let mut client = leader(&process).await;
        let (id, mut worker, first) = completed_by(&mut client, &process.address, "late", "").await;
        let known = ask(&mut client, &id).await.unwrap().logs.len();
        let mut stored = 0;
        let mut asked = None;
        for number in 1..=100 {
            worker.line(&first, number, &format!("late {number}")).await;
            worker.lines_stored(number).await;
            let request = GetJobRequest { job_id: id.clone() };
            let job = client.get_job(request).await.unwrap().into_inner().job;
            if job.unwrap().archived_ms > 0 {
                break;
            }
            stored = number;
            // Beside the lines, which go on.
            asked.get_or_insert_with(|| {
                let (mut client, request) = (client.clone(), archive(&id));
                tokio::spawn(async move { client.archive_job(request).await.unwrap() })
            });
        }
        asked.unwrap().await.unwrap();
        until_archived(&mut client, &[&id]).await;
        let lines = ask(&mut client, &id).await.unwrap().logs;
        let late = lines.iter().filter(|line| line.text.starts_with("late "));
        let late: Vec<_> = late.map(|line| line.text.as_str()).collect();
        let expected: Vec<_> = (1..=stored)
            .map(|number| format!("late {number}"))
            .collect();
        assert_eq!(late[..expected.len().min(late.len())], expected);
        assert!(lines.len() >= known + expected.len());
    }

    #[tokio::test]
    async fn the_next_leader_goes_on() {
        let Some(cluster) = EtcdCluster::start("the_next_leader_goes_on", 1) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let endpoints = cluster.endpoints().join(",");
        let checkpoints = directory.path().join("checkpoints").display().to_string();
        let flags = [
            "--etcd",
            &endpoints,
            "--checkpoint-url",
            &checkpoints,
            "--leader-lease-ms",
            "2000",
            "--segment-flush-ms",
            "1",
        ];
        let data = directory.path().join("data");
        let first = Process::start_with(&data, &flags).await;
        let mut client = leader(&first).await;
        let id = completed(&mut client, &first.address, "kept", "").await;
        let mut before = ask(&mut client, &id).await.unwrap();
        assert_eq!((before.trials.len(), before.logs.len()), (2, 4));
        client.archive_job(archive(&id)).await.unwrap();
        first.kill();

        let second = Process::start_with(&data, &flags).await;
        let mut client = leader(&second).await;
        until_archived(&mut client, &[&id]).await;
        let after = ask(&mut client, &id).await.unwrap();
        before.job.archived_ms = after.job.archived_ms;
        assert_eq!(after, before);
        let record = format!("/trainyard/r/archived/{id}");
        until_left(&cluster, &id, &[&record]).await;
        client.delete_job(delete(&id, false)).await.unwrap();
        second.kill();

        let third = Process::start_with(&data, &flags).await;
        let mut client = leader(&third).await;
        until_left(&cluster, &id, &[]).await;
        let gone = ask(&mut client, &id).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound, "{gone}");
        let objects = walk(&directory.path().join("checkpoints/trainyard-series"));
        let archived = objects
            .iter()
            .filter(|path| path.display().to_string().contains("archives"));
        assert_eq!(archived.count(), 0, "{objects:?}");
    }
}

/// After a restart a completed search rests in its log: it is woken when somebody extends it.
#[tokio::test]
async fn a_completed_search_is_extended_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    let job_id = completed(&mut client, &coordinator.address, "more", "").await;
    let before = ask(&mut client, &job_id).await.unwrap();
    coordinator.stop().await;

    let coordinator = Local::start(directory.path()).await;
    let mut client = support::client(&coordinator.address).await;
    let extend = |trials: u32| ExtendJobRequest {
        request_id: format!("extend by {trials}"),
        job_id: job_id.clone(),
        trials,
        seconds: 0.0,
    };
    let refused = client.extend_job(extend(0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let extended = client.extend_job(extend(1)).await.unwrap().into_inner();
    assert_eq!(extended.trials_expected, 3);
    let mut worker = FakeWorker::join(&coordinator.address, "w", 1).await;
    let third = worker.assignment().await;
    assert_eq!(third.trial_id, 2);
    // Its log has no end yet, so only the trials are asked for.
    let request = ListTrialsRequest {
        job_id: job_id.clone(),
        ..Default::default()
    };
    let trials = client.list_trials(request).await.unwrap();
    let trials = trials.into_inner().trials;
    assert_eq!(trials.len(), 3);
    for (after, before) in trials.iter().zip(&before.trials) {
        assert_eq!(after.params_json, before.params_json);
        assert_ne!(after.params_json, trials[2].params_json);
    }
    coordinator.stop().await;
}
