//! Many clients of one coordinator, real ones and such as only take up room.

mod support;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use support::{FakeWorker, Process, client, ended, job, progress, soon, submit};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{Service as _, http};
use tonic::{Code, Status};
use trainyard_proto::v1::worker_service_client::WorkerServiceClient;
use trainyard_proto::v1::*;

/// Connections that say nothing, beyond what a process may have files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_keep_nobody_out() {
    const FILES: u32 = 200;
    const SILENT: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Process::start_within(&directory.path().join("data"), FILES, &[]).await;
    let mut before = client(&coordinator.address).await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let connected = TcpStream::connect(&coordinator.address);
        silent.push(soon("a connection", connected).await.unwrap());
    }
    // Who was there is, and whoever comes is served as well.
    let info = before.get_cluster_info(GetClusterInfoRequest {});
    soon("an answer", info).await.unwrap();
    for _ in 0..3 {
        let mut late = client(&coordinator.address).await;
        let info = late.get_cluster_info(GetClusterInfoRequest {});
        soon("an answer to a late client", info).await.unwrap();
    }
    // All of them are closed in the end.
    for mut silent in silent {
        let read = soon("the end of a silent connection", async {
            let mut all = Vec::new();
            silent.read_to_end(&mut all).await
        });
        // Ended or reset; the settings of HTTP/2 may have come before.
        drop(read.await);
    }
    let info = before.get_cluster_info(GetClusterInfoRequest {});
    soon("an answer", info).await.unwrap();
}

/// Who watches a job sees the last state of every trial before the job's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watchers_see_everything_before_the_end() {
    let watchers = number("TRAINYARD_WATCHERS", 50);
    let trials = u32::try_from(number("TRAINYARD_TRIALS", 30)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Process::start(&directory.path().join("data")).await;
    let mut person = client(&coordinator.address).await;
    let spec = job("watched", trials);
    let job_id = submit(&mut person, "r-1", &spec).await.unwrap();
    let mut watching = Vec::new();
    for _ in 0..watchers {
        let mut own = client(&coordinator.address).await;
        let request = WatchJobRequest {
            job_id: job_id.clone(),
        };
        let mut watch = own.watch_job(request).await.unwrap().into_inner();
        watching.push(tokio::spawn(async move {
            let mut states = std::collections::BTreeMap::new();
            let mut end = None;
            while let Some(event) = soon("an event", watch.message()).await.unwrap() {
                match event.event.unwrap() {
                    job_event::Event::Job(job) => end = Some(job.state()),
                    job_event::Event::Trial(trial) => {
                        states.insert(trial.trial_id, trial.state());
                    }
                }
            }
            (end, states)
        }));
    }
    let mut worker = FakeWorker::join(&coordinator.address, "w-1", 4).await;
    // As fast as it can; in the end the best one is judged.
    let working = tokio::spawn(async move {
        loop {
            let assignment = worker.assignment().await;
            if assignment.kind() == AssignmentKind::Train {
                worker.report(&assignment, progress(1, 0.5)).await;
            }
            worker.report(&assignment, ended(1, Vec::new())).await;
        }
    });
    let (mut early, mut whole) = (0, 0);
    for watched in watching {
        let (end, states) = watched.await.unwrap();
        assert_eq!(end, Some(JobState::Completed));
        let completed = states.values().filter(|s| **s == TrialState::Completed);
        match completed.count() == trials as usize {
            true => whole += 1,
            false => early += 1,
        }
    }
    working.abort();
    assert_eq!(
        (early, whole),
        (0, watchers),
        "ended before everything was told"
    );
}

/// A size for measurements beside the one that is tested.
fn number(name: &str, otherwise: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |given| given.parse().expect("a number"))
}

#[tokio::test]
async fn one_client_has_so_many_watchers_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let most = ["--max-watchers-per-client", "8"];
    let coordinator = Process::start_with(&directory.path().join("data"), &most).await;
    let mut person = client(&coordinator.address).await;
    let job_id = submit(&mut person, "r-1", &job("shared", 1)).await.unwrap();
    let request = || WatchJobRequest {
        job_id: job_id.clone(),
    };
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(person.watch_job(request()).await.unwrap());
    }
    let refused = person.watch_job(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("all 8"), "{refused}");
    // Everything else is answered, and who ends one may open another.
    person
        .get_cluster_info(GetClusterInfoRequest {})
        .await
        .unwrap();
    open.pop();
    soon("room for another", async {
        while person.watch_job(request()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// However many bytes somebody says that a worker's name has.
#[tokio::test]
async fn a_worker_with_a_name_of_megabytes_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Process::start(&directory.path().join("data")).await;
    let mut workers = WorkerServiceClient::new(support::channel(&coordinator.address).await);
    let register = Register {
        worker_id: "w".to_owned(),
        host: "h".repeat(15 * 1024 * 1024),
        devices: vec!["cpu".to_owned()],
        ..Default::default()
    };
    let register = worker_message::Message::Register(register);
    let message = WorkerMessage {
        message: Some(register),
    };
    let refused = workers.session(tokio_stream::iter([message])).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let expected = "host: 15728640 bytes given; accepted: at most 255";
    assert_eq!(refused.message(), expected);
}

/// A body that begins.
struct Begun(Option<Bytes>);

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

/// What somebody sends of a request, on a connection of its own: a message of so many bytes is announced, of which
/// the first few come. The answer's head.
#[allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
async fn part_of_a_request(address: &str, path: &str, announced: u32) -> http::HeaderMap {
    let mut channel = support::channel(address).await;
    let begun = [&[0][..], &announced.to_be_bytes(), &[7; 100]].concat();
    // And then nothing, without an end.
    let body = Begun(Some(begun.into()));
    let request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body))
        .unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx))
        .await
        .unwrap();
    let answer = soon("an answer to a part", channel.call(request)).await;
    answer.unwrap().headers().clone()
}

/// However many requests somebody begins and never ends, the coordinator waits for few of them, and not for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_requests_are_bounded_in_bytes_and_time() {
    const SUBMIT: &str = "/trainyard.v1.JobService/SubmitJob";
    const MIB: u32 = 1024 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let limits = [
        "--max-receiving-mib-per-client",
        "16",
        "--request-timeout-ms",
        "2000",
    ];
    let coordinator = Process::start_with(&directory.path().join("data"), &limits).await;
    let parts = (0..40).map(|_| part_of_a_request(&coordinator.address, SUBMIT, MIB));
    let told = futures::future::join_all(parts).await;
    let with = |code: Code| {
        let code = (code as i32).to_string();
        told.iter()
            .filter(|head| head["grpc-status"] == *code)
            .count()
    };
    // 16 MiB are under way until their time is over; the others are told at once, or have the room of those.
    let (late, full) = (with(Code::DeadlineExceeded), with(Code::ResourceExhausted));
    assert_eq!(late + full, 40, "{told:?}");
    assert!(late >= 16, "{late}");
    // All of it is free again.
    let large = format!("{}# {}", job("large", 1), "x".repeat(1_000_000));
    let mut person = client(&coordinator.address).await;
    submit(&mut person, "r-1", &large).await.unwrap();
    // What nobody may send is not waited for.
    let told = part_of_a_request(&coordinator.address, SUBMIT, 4 * MIB).await;
    assert_eq!(
        told["grpc-status"],
        (Code::InvalidArgument as i32).to_string()
    );
    // Positions in a log may be more.
    let follow = "/trainyard.v1.JobService/StreamLogs";
    let told = part_of_a_request(&coordinator.address, follow, 4 * MIB).await;
    assert_eq!(
        told["grpc-status"],
        (Code::DeadlineExceeded as i32).to_string()
    );
}

/// Calls that do not end do not keep the process from its end.
#[tokio::test]
async fn a_signal_ends_the_process_whatever_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let drain = ["--drain-ms", "200"];
    let mut coordinator = Process::start_with(&directory.path().join("data"), &drain).await;
    let mut person = client(&coordinator.address).await;
    let job_id = submit(&mut person, "r-1", &job("open", 1)).await.unwrap();
    let watch = WatchJobRequest { job_id };
    let _watch = person.watch_job(watch).await.unwrap();
    // A session whose worker never says who it is.
    let mut workers = WorkerServiceClient::new(support::channel(&coordinator.address).await);
    let (_silent, queue) = mpsc::channel::<WorkerMessage>(1);
    let session = tokio::spawn(async move {
        let opened = workers.session(ReceiverStream::new(queue)).await;
        opened.map(drop)
    });
    let _silent_too = TcpStream::connect(&coordinator.address).await.unwrap();
    let status = coordinator.terminate().await;
    assert!(status.success(), "{status}");
    assert!(session.await.unwrap().is_err());
}

/// A job of a program, with this in its entrypoint.
fn program(entrypoint: &str) -> String {
    format!(
        "name: s\nentrypoint: {{command: [x], {entrypoint}}}\n\
         objectives: [{{metric: loss, mode: minimize}}]\nsearcher: {{name: random, max_trials: 1}}"
    )
}

/// A piece of a bundle, the first one where a digest is given.
fn piece(digest: &str, bytes: usize, chunk: &[u8]) -> UploadBundleRequest {
    UploadBundleRequest {
        digest: digest.to_owned(),
        bytes: bytes as u64,
        chunk: chunk.to_vec(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_accepted_only_with_its_code() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Process::start(&directory.path().join("data")).await;
    let mut client = client(&coordinator.address).await;
    let unpacked = program("ship: /code");
    let error = submit(&mut client, "1", &unpacked).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let expected = "entrypoint.ship: given without `bundle`";
    assert!(error.message().contains(expected), "{error}");

    let content = b"what is in it is the workers' affair";
    let digest = blake3::hash(content).to_hex().to_string();
    let named = program(&format!("bundle: {digest}"));
    let error = submit(&mut client, "2", &named).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains(&digest), "{error}");
    let question = |storage_url: &str, bytes: usize| FindBundleRequest {
        digest: digest.clone(),
        bytes: bytes as u64,
        storage_url: storage_url.to_owned(),
    };
    for url in ["http://host/x", "/plain", "memory://x", "nothing://x"] {
        let asked = client.find_bundle(question(url, 1)).await;
        assert_eq!(asked.unwrap_err().code(), Code::InvalidArgument, "{url}");
    }
    for found in [false, true, true] {
        let asked = client.find_bundle(question("", content.len())).await;
        let answer = asked.unwrap().into_inner();
        assert_eq!((answer.found, answer.max_bytes), (found, 64 << 20));
        let pieces = [
            piece(&digest, content.len(), &content[..9]),
            piece("", 0, &content[9..]),
        ];
        let sent = client.upload_bundle(tokio_stream::iter(pieces)).await;
        sent.unwrap();
    }
    // Another length is not what was sent.
    let asked = client.find_bundle(question("", 1)).await;
    assert!(!asked.unwrap().into_inner().found);
    assert_eq!(submit(&mut client, "2", &named).await.unwrap(), "s-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_refused_that_is_not_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let more = ["--max-bundle-mib", "1"];
    let coordinator = Process::start_with(&directory.path().join("data"), &more).await;
    let mut client = client(&coordinator.address).await;
    let content = vec![7; 20_000];
    let digest = blake3::hash(&content).to_hex().to_string();
    let (half, all) = (&content[..10_000], content.len());
    let other = "0".repeat(64);
    let refused = [
        (vec![], "digest: no message"),
        (
            vec![piece("../../x", all, &content)],
            "expected a BLAKE3 digest",
        ),
        (vec![piece(&digest, all, half)], "(10000 came)"),
        (vec![piece(&digest, 10, &content)], "(more came)"),
        (vec![piece(&other, all, &content)], "of what came"),
        (vec![piece(&digest, (1 << 20) + 1, half)], "max_bundle_mib"),
    ];
    for (pieces, expected) in refused {
        let sent = client.upload_bundle(tokio_stream::iter(pieces)).await;
        let error = sent.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(expected), "{error}");
    }
    let question = FindBundleRequest {
        digest,
        bytes: all as u64,
        ..Default::default()
    };
    let asked = client.find_bundle(question).await;
    assert!(!asked.unwrap().into_inner().found);
}
