//! Runs one assignment without a coordinator, for tests: what it reported, logged and ended with.

use std::path::PathBuf;
use std::sync::Arc;

use trainyard_common::spec::{EntrypointSpec, JobSpec, TrialSpec};
use trainyard_proto::v1::{Assignment, AssignmentKind, Progress, Rank, Report, report::Body};

use super::{Host, execute};
use crate::attempt::{AttemptKey, End, Stop, StopSignal};
use crate::outbox::{Outbox, Reporter};

/// The beginning of a Python program that speaks over the channel, one request after the other.
pub(crate) const SPEAKS: &str = r#"
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["TRAINYARD_CHANNEL"])
f = s.makefile("rwb")
def ask(**message):
    f.write(json.dumps(message).encode() + b"\n"); f.flush()
    return json.loads(f.readline())
ask(type="hello", version=1, token=os.environ["TRAINYARD_TOKEN"])
"#;

/// An attempt under way.
pub(crate) struct Run {
    outbox: Arc<Outbox>,
    stop: Arc<StopSignal>,
    acknowledging: bool,
    stop_at: Option<(String, Stop)>,
    touch_at: Option<(String, PathBuf)>,
}

impl Run {
    /// By which it is told to stop.
    pub(crate) fn signal(&self) -> Arc<StopSignal> {
        self.stop.clone()
    }

    /// Asks to stop once a log line contains this.
    pub(crate) fn stop_at_log(&mut self, text: &str, stop: Stop) {
        self.stop_at = Some((text.to_owned(), stop));
    }

    /// Makes a file once a log line contains this.
    pub(crate) fn touch_at_log(&mut self, text: &str, file: PathBuf) {
        self.touch_at = Some((text.to_owned(), file));
    }

    fn look(&mut self, ran: &mut (Vec<Report>, String)) {
        for report in self.outbox.next_reports() {
            if self.acknowledging {
                self.outbox.acknowledge(report.sequence, 0);
            }
            ran.0.push(report);
        }
        while let Some(batch) = self.outbox.next_logs() {
            for line in batch.lines {
                ran.1.push_str(&line.text);
                ran.1.push('\n');
                if let Some((text, stop)) = &self.stop_at
                    && line.text.contains(text)
                {
                    self.stop.request(*stop);
                }
                if let Some((text, file)) = &self.touch_at
                    && line.text.contains(text)
                {
                    std::fs::write(file, "").unwrap();
                }
            }
        }
    }
}

/// What an attempt did.
pub(crate) struct Ran {
    pub(crate) end: End,
    pub(crate) reports: Vec<Report>,
    log: String,
}

impl Ran {
    pub(crate) fn progress(&self) -> Vec<&Progress> {
        self.bodies()
            .filter_map(|body| match body {
                Body::Progress(progress) => Some(progress),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.reports
            .iter()
            .filter_map(|report| report.body.as_ref())
    }

    pub(crate) fn log(&self) -> &str {
        &self.log
    }
}

pub(crate) fn exec_spec(command: &[&str]) -> TrialSpec {
    let mut job: JobSpec = serde_json::from_str(r#"{"name": "job"}"#).unwrap();
    job.entrypoint = Some(EntrypointSpec {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..EntrypointSpec::default()
    });
    trial_spec(job, "file:///nowhere")
}

pub(crate) fn trial_spec(job: JobSpec, checkpoint_url: &str) -> TrialSpec {
    TrialSpec {
        params: serde_json::from_str(r#"{"lr": 0.5}"#).unwrap(),
        trial_seed: 77,
        checkpoint_url: checkpoint_url.to_owned(),
        bundle_url: None,
        virtual_shards: 1,
        job,
    }
}

pub(crate) fn assignment(spec: &TrialSpec) -> Assignment {
    Assignment {
        job_id: "job-1".to_owned(),
        trial_id: 3,
        attempt: 0,
        generation: 1,
        rank: 0,
        ranks: vec![Rank {
            rank: 0,
            worker_id: "worker-1".to_owned(),
            slots: vec![0],
            collective_address: "127.0.0.1:1".to_owned(),
        }],
        trial_spec_json: serde_json::to_string(spec).unwrap(),
        kind: AssignmentKind::Train.into(),
        ..Assignment::default()
    }
}

pub(crate) async fn run_alone(spec: TrialSpec, prepare: impl FnOnce(&mut Run)) -> Ran {
    run_assignment(assignment(&spec), prepare).await
}

/// Runs an assignment while acknowledging every report.
pub(crate) async fn run_assignment(assignment: Assignment, prepare: impl FnOnce(&mut Run)) -> Ran {
    run_beside(assignment, Arc::new(Host::for_test()), prepare).await
}

/// As [`run_assignment`], on a worker that may have other attempts.
pub(crate) async fn run_beside(
    assignment: Assignment,
    host: Arc<Host>,
    prepare: impl FnOnce(&mut Run),
) -> Ran {
    let outbox = Arc::new(Outbox::new(1024));
    let stop = Arc::new(StopSignal::default());
    let key = AttemptKey::of_assignment(&assignment);
    let reporter = Reporter::new(key, stop.clone(), outbox.clone());
    let mut run = Run {
        outbox: outbox.clone(),
        stop,
        acknowledging: true,
        stop_at: None,
        touch_at: None,
    };
    prepare(&mut run);
    let mut seen = (Vec::new(), String::new());
    let execution = execute(assignment, reporter, host);
    tokio::pin!(execution);
    let end = loop {
        tokio::select! {
            end = &mut execution => break end,
            () = outbox.work() => run.look(&mut seen),
        }
    };
    run.look(&mut seen);
    Ran {
        end,
        reports: seen.0,
        log: seen.1,
    }
}
