//! People and their programs: each request is asked until it is answered, under one request id.

use trainyard_common::ids::{JobId, RequestId, TrialId};
use trainyard_coordinator::cluster::api::{Event, Rejection, Reply, WorkspaceChange};

use super::coordinator::Node;
use super::jobs::{WORKSPACES, variant_of};
use super::stats::Hit;
use super::turn::{FULL_MS, Input};
use super::world::{Due, World};

/// One request.
pub(super) struct Client {
    event: Event,
    answer: Option<Result<Reply, Rejection>>,
}

impl Client {
    pub(super) fn new(event: Event) -> Self {
        Self {
            event,
            answer: None,
        }
    }

    pub(super) fn answered(&self) -> bool {
        self.answer.is_some()
    }

    /// What it was told, unless it was refused.
    pub(super) fn reply(&self) -> Option<&Reply> {
        self.answer.as_ref()?.as_ref().ok()
    }
}

/// What is held: the job that somebody wants paused or resumed, the worker that is to drain or not.
fn holds(event: &Event) -> Option<&str> {
    match event {
        Event::Pause { job, .. } | Event::Resume { job, .. } => Some(job.as_str()),
        Event::Drain { worker, .. } => Some(worker.as_str()),
        Event::SetWorkspace { workspace, .. } | Event::RemoveWorkspace { workspace } => {
            Some(workspace.as_str())
        }
        _ => None,
    }
}

/// Whether a request may be refused so: what has ended meanwhile can be neither held nor extended, a
/// space may have no more configurations, and who has left cannot be drained.
fn may_be(event: &Event, rejection: &Rejection) -> bool {
    match rejection {
        Rejection::Ended { .. } => !matches!(event, Event::Submit { .. } | Event::Cancel { .. }),
        Rejection::Extend { .. } => matches!(event, Event::Extend { .. }),
        Rejection::Retry { .. } => matches!(event, Event::Retry { .. }),
        Rejection::UnknownWorker { .. } => {
            matches!(event, Event::Drain { .. } | Event::ForgetWorker { .. })
        }
        Rejection::Connected { .. } => matches!(event, Event::ForgetWorker { .. }),
        _ => false,
    }
}

impl World {
    /// A client asks, and asks again until it is answered.
    pub(super) fn client(&mut self, client: usize) {
        if self.clients[client].answered() {
            return;
        }
        // Who asks for one thing and for its opposite waits for the answer before asking the other.
        let mine = holds(&self.clients[client].event);
        let before = self.clients[..client]
            .iter()
            .any(|other| mine.is_some() && holds(&other.event) == mine && !other.answered());
        let newest = self.store.term;
        let leads = |node: &Node| node.leader.as_ref().is_some_and(|l| l.term == newest);
        let leader = self.nodes.iter().position(leads);
        if let Some(n) = leader.filter(|_| !before) {
            if self.unlucky(5) {
                self.stats.hit(Hit::RequestLost);
            } else {
                let wait = self.below(30);
                self.after(wait, Due::Ask(client, n));
            }
        }
        let wait = 1_000 + self.below(3_000);
        self.after(wait, Due::Client(client));
    }

    /// A request arrives.
    pub(super) fn ask(&mut self, client: usize, n: usize) {
        if self.is_full(n) {
            return self.after(FULL_MS, Due::Ask(client, n));
        }
        let event = self.clients[client].event.clone();
        self.input(n, Input::Ask(client, event));
    }

    /// The answer to a client.
    pub(super) fn answered(&mut self, client: usize, answer: Result<Option<Reply>, Rejection>) {
        if self.unlucky(8) {
            self.stats.hit(Hit::AnswerLost);
            return;
        }
        if let Err(Rejection::Asleep(job)) = &answer {
            return self.wake(job);
        }
        if let Err(Rejection::Loading(_)) = &answer {
            // As it is after a take-over: asked again.
            return;
        }
        let answer = match answer {
            Ok(Some(reply)) => Ok(reply),
            Err(rejection) if self.may_be(client, &rejection) => Err(rejection),
            other => return self.violated(format!("client {client} was told {other:?}")),
        };
        if let Ok(
            Reply::Submitted { job, .. }
            | Reply::Cancelled { job, .. }
            | Reply::Held { job, .. }
            | Reply::Extended { job, .. },
        ) = &answer
            && !self.store.jobs.contains_key(job)
            && !self.store.gone.contains(job)
        {
            return self.violated(format!("{answer:?} was answered before it was durable"));
        }
        if let Ok(Reply::Deleted { job } | Reply::Archiving { job, .. }) = &answer
            && let Some(known) = self.store.jobs.get(job)
            && known.record.leaving.is_none()
        {
            return self.violated(format!("{answer:?} was answered before it was durable"));
        }
        let known = self.clients[client].answer.replace(answer.clone());
        if known.is_none() && answer.is_ok() {
            match &self.clients[client].event {
                Event::Pause { .. } => self.stats.hit(Hit::Paused),
                Event::Resume { .. } => self.stats.hit(Hit::Resumed),
                Event::Extend { .. } => self.stats.hit(Hit::Extended),
                Event::Retry { .. } => self.stats.hit(Hit::Retried),
                Event::Cancel { .. } => self.stats.hit(Hit::JobCancelled),
                Event::Drain { undo: false, .. } => self.stats.hit(Hit::Drained),
                Event::ForgetWorker { .. } => self.stats.hit(Hit::WorkerForgotten),
                Event::SetWorkspace { .. } => self.stats.hit(Hit::SharesSet),
                _ => {}
            }
        }
        if let (Some(Ok(Reply::Submitted { job: known, .. })), Ok(Reply::Submitted { job, .. })) =
            (&known, &answer)
            && known != job
        {
            self.violated(format!("one request made two jobs: {known} and {job}"));
        }
    }

    /// Somebody repeats a request that may have been answered.
    pub(super) fn user_repeats(&mut self) {
        let client = self.below(self.clients.len() as u64) as usize;
        // These have no request id: repeated later, they are others.
        let late = matches!(
            self.clients[client].event,
            Event::Drain { .. }
                | Event::ForgetWorker { .. }
                | Event::SetWorkspace { .. }
                | Event::RemoveWorkspace { .. }
        );
        if let Some(n) = self.nodes.iter().position(|node| node.leader.is_some())
            && (self.clients[client].answered() || holds(&self.clients[client].event).is_none())
            && !late
        {
            self.stats.hit(Hit::RequestRepeated);
            self.ask(client, n);
        }
    }

    fn may_be(&self, client: usize, rejection: &Rejection) -> bool {
        let event = &self.clients[client].event;
        may_be(event, rejection) || self.may_have_left(event, rejection)
    }

    /// A job whose submission was answered.
    pub(super) fn some_job(&mut self) -> Option<JobId> {
        let client = self.below(self.plan.jobs.len() as u64) as usize;
        match self.clients[client].reply() {
            Some(Reply::Submitted { job, .. }) => Some(job.clone()),
            _ => None,
        }
    }

    pub(super) fn request(&mut self, event: impl FnOnce(RequestId) -> Event) {
        let number = self.clients.len();
        let event = event(RequestId(format!("c{number}")));
        self.clients.push(Client::new(event));
        self.after(1, Due::Client(number));
    }

    /// Somebody cancels a job.
    pub(super) fn user_cancels(&mut self) {
        let Some(job) = self.some_job() else { return };
        if self.cancelled.insert(job.clone()) {
            self.request(|request| Event::Cancel { request, job });
        }
    }

    /// Somebody pauses a job or one trial, or lets it go on.
    pub(super) fn user_holds(&mut self, pauses: bool) {
        let Some(job) = self.some_job() else { return };
        let trials = self.store.jobs.get(&job).map_or(0, |job| job.trials);
        let whole = trials == 0 || self.below(2) == 0;
        let trial = (!whole).then(|| TrialId(self.below(u64::from(trials)) as u32));
        self.request(|request| match pauses {
            true => Event::Pause {
                request,
                job,
                trial,
            },
            false => Event::Resume {
                request,
                job,
                trial,
            },
        });
    }

    /// Somebody wants more trials of a search.
    pub(super) fn user_extends(&mut self) {
        let Some(job) = self.some_job() else { return };
        let trials = 1 + self.below(2) as u32;
        let limited = variant_of(&job).is_some_and(|v| v.job().searcher.max_time.is_some());
        let seconds = if limited {
            5.0 * self.below(2) as f64
        } else {
            0.0
        };
        self.extended.insert(job.clone());
        self.request(|request| Event::Extend {
            request,
            job,
            trials,
            seconds,
        });
    }

    /// Somebody has mended a program, and wants what has failed of a job tried again.
    pub(super) fn user_retries(&mut self) {
        let Some(job) = self.some_job() else { return };
        let trials = self.store.jobs.get(&job).map_or(0, |job| job.trials);
        let whole = trials == 0 || self.below(2) == 0;
        let trial = (!whole).then(|| TrialId(self.below(u64::from(trials)) as u32));
        self.retried.insert(job.clone());
        self.request(|request| Event::Retry {
            request,
            job,
            trial,
        });
    }

    /// Somebody gives a workspace another weight, a quota that may be too small for its gangs, or none.
    pub(super) fn user_sets_shares(&mut self) {
        let which = self.below(WORKSPACES.len() as u64) as usize;
        let workspace = WORKSPACES[which].to_owned();
        let change = match self.below(3) {
            0 => WorkspaceChange {
                weight: Some(0.5 + self.below(4) as f64),
                ..WorkspaceChange::default()
            },
            1 => WorkspaceChange {
                no_quota: true,
                ..WorkspaceChange::default()
            },
            _ => WorkspaceChange {
                max_cpu_slots: Some(self.below(5) as u32),
                ..WorkspaceChange::default()
            },
        };
        self.request(|_| Event::SetWorkspace { workspace, change });
    }

    /// Somebody wants a worker drained, or takes that back.
    pub(super) fn user_drains(&mut self, w: usize, undo: bool) {
        let worker = self.workers[w].id.clone();
        self.request(|_| Event::Drain { worker, undo });
    }

    /// Somebody gives a worker up, whether it is gone or not.
    pub(super) fn user_forgets(&mut self, w: usize) {
        let worker = self.workers[w].id.clone();
        self.request(|_| Event::ForgetWorker { worker });
    }

    /// At the end everything that was paused goes on, and nothing is drained any more.
    pub(super) fn undo_all(&mut self) {
        let drained = self
            .clients
            .iter()
            .filter_map(|client| match &client.event {
                Event::Drain { worker, undo } => (!undo).then(|| worker.clone()),
                _ => None,
            });
        for worker in drained.collect::<Vec<_>>() {
            let undo = true;
            self.request(|_| Event::Drain { worker, undo });
        }
        let set = |event: &Event| matches!(event, Event::SetWorkspace { .. });
        let set = self.clients.iter().any(|client| set(&client.event));
        for workspace in WORKSPACES.into_iter().filter(|_| set) {
            let workspace = workspace.to_owned();
            self.request(|_| Event::RemoveWorkspace { workspace });
        }
        let held: Vec<(JobId, Option<TrialId>)> = self
            .clients
            .iter()
            .filter_map(|client| match &client.event {
                Event::Pause { job, trial, .. } => Some((job.clone(), *trial)),
                _ => None,
            })
            .collect();
        for (job, trial) in held {
            self.request(|request| Event::Resume {
                request,
                job,
                trial,
            });
        }
    }
}
