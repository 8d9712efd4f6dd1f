//! Proves that a worker and the coordinator see one checkpoint store: each reads what the other
//! wrote. Runs beside the loop; only the verdict comes back to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use trainyard_common::ids::WorkerId;
use trainyard_common::store_url;

use super::Input;
use super::input::WeakInputs;
use super::outbox::{Outbox, Outgoing};
use crate::cluster::api::Event;

/// Probes at one time; further ones wait for their turn.
const MAX_PROBES: usize = 32;

/// How long a worker may take to read and write its side. Longer than its own object-store deadline
/// of two calls (20 s each), so that its message is heard rather than this one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One probe as the machine wants it.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) worker: WorkerId,
    pub(super) url: String,
    pub(super) path: String,
    pub(super) content: String,
    pub(super) reply_path: String,
}

/// Workers' answers are handed to the probes that wait for them.
#[derive(Debug)]
pub(super) struct Prober {
    waiting: HashMap<(WorkerId, String), oneshot::Sender<String>>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Prober {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            waiting: HashMap::new(),
            permits: Arc::new(Semaphore::new(MAX_PROBES)),
            tasks,
        }
    }

    /// Starts a probe; its verdict comes to `inputs` as `Event::StoreProbed`, whatever happens.
    pub(super) fn start(&mut self, probe: Probe, outbox: Option<Outbox>, inputs: WeakInputs) {
        // Those that gave up waiting leave their ends behind.
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        let (answer, answered) = oneshot::channel();
        let name = (probe.worker.clone(), probe.path.clone());
        self.waiting.insert(name, answer);
        let permits = Arc::clone(&self.permits);
        self.tasks.spawn(async move {
            let error = match permits.acquire_owned().await {
                Ok(_permit) => carry_out(&probe, outbox, answered).await.err(),
                Err(_) => Some("the coordinator is stopping".to_owned()),
            };
            if let Some(error) = &error {
                tracing::warn!(worker_id = %probe.worker, url = probe.url, error, "store not proven");
            }
            let verdict = Event::StoreProbed {
                worker: probe.worker,
                path: probe.path,
                error,
            };
            if let Some(inputs) = inputs.upgrade() {
                // Refused only when the loop has ended, and then nobody needs the verdict.
                let _ = inputs.send(Input::own(verdict)).await;
            }
        });
    }

    /// A worker's answer (empty = it could read and write). One that nobody waits for is stale.
    pub(super) fn answered(&mut self, worker: WorkerId, path: String, error: String) {
        if let Some(waiting) = self.waiting.remove(&(worker, path)) {
            let _ = waiting.send(error);
        }
    }
}

async fn carry_out(
    probe: &Probe,
    outbox: Option<Outbox>,
    answered: oneshot::Receiver<String>,
) -> Result<(), String> {
    let Probe {
        url,
        path,
        content,
        reply_path,
        ..
    } = probe;
    store_url::write_probe(url, path, content)
        .await
        .map_err(|error| format!("the coordinator cannot use the checkpoint store: {error}"))?;
    let message = Outgoing::ProbeStore {
        url: url.clone(),
        path: path.clone(),
        content: content.clone(),
        reply_path: reply_path.clone(),
    };
    if !outbox.is_some_and(|outbox| outbox.send(message)) {
        return Err("the worker's session ended before it was asked".to_owned());
    }
    match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
        Ok(Ok(error)) if error.is_empty() => {}
        Ok(Ok(error)) => return Err(error),
        Ok(Err(_)) => return Err("the probe was replaced by a newer one".to_owned()),
        Err(_) => {
            return Err(format!(
                "the worker did not answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            ));
        }
    }
    store_url::check_reply(url, path, content, reply_path)
        .await
        .map_err(|error| error.to_string())
}
