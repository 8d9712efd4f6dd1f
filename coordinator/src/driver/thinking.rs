//! What searchers and schedulers compute, on threads of their own beside the loop.
//!
//! Owns how many there are and whose turn it is: of one job one at a time, and one thread always for what is not
//! long, so that a slow search delays itself alone. What comes of it goes back to the loop, whatever happens.

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trainyard_common::ids::JobId;

use super::Input;
use super::input::WeakInputs;
use crate::cluster::api::Event;
use crate::cluster::model::{Computation, Computed, Ticket};

/// One for what is long and one for what is not.
pub(crate) const LEAST_THREADS: usize = 2;

/// What came of a task, or why nothing did.
type Answer = Result<Computed, String>;

/// Computes beside the loop. What is not begun when it is dropped never is.
pub(super) struct Thinker {
    desk: Arc<Desk>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

struct Desk {
    line: Mutex<Line>,
    /// Something was put in line or has ended, or all is over.
    changed: Condvar,
    /// Threads at most.
    most: usize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// Jobs of which something is computed, and how much of that is long.
    busy: BTreeSet<JobId>,
    long: usize,
    threads: usize,
    over: bool,
}

struct Waiting {
    job: JobId,
    long: bool,
    task: Computation,
    answer: oneshot::Sender<Answer>,
}

impl Thinker {
    pub(super) fn new(most: usize, tasks: TaskTracker, closing: CancellationToken) -> Self {
        Self {
            desk: Arc::new(Desk {
                line: Mutex::default(),
                changed: Condvar::new(),
                most: most.max(LEAST_THREADS),
            }),
            tasks,
            closing,
        }
    }

    /// Computes it and tells the loop.
    pub(super) fn start(&self, job: JobId, ticket: Ticket, task: Computation, inputs: WeakInputs) {
        let (answer, answered) = oneshot::channel();
        self.desk.put(Waiting {
            job: job.clone(),
            long: task.is_long(),
            task,
            answer,
        });
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            let answered = tokio::select! {
                () = closing.cancelled() => return,
                answered = answered => answered,
            };
            // Without one, another of its job has taken its place: nobody waits for it.
            if let (Ok(computed), Some(inputs)) = (answered, inputs.upgrade()) {
                let event = Event::Searched {
                    job,
                    ticket,
                    computed,
                };
                // The loop may have ended: the next one asks again.
                let _ = inputs.send(Input::own(event)).await;
            }
        });
    }
}

impl Drop for Thinker {
    fn drop(&mut self) {
        let mut line = self.desk.lock();
        line.over = true;
        line.waiting.clear();
        self.desk.changed.notify_all();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Line> {
        // Whoever panics does so while it computes, and holds nothing then.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(self: &Arc<Self>, new: Waiting) {
        let mut line = self.lock();
        // What a job had in line before, nobody waits for any more.
        let chooses = new.task.chooses();
        line.waiting
            .retain(|waiting| waiting.job != new.job || waiting.task.chooses() != chooses);
        line.waiting.push_back(new);
        let idle = line.threads - line.busy.len();
        if line.threads < self.most && idle < line.waiting.len() {
            let desk = Arc::clone(self);
            let name = format!("search-{}", line.threads);
            let thread = std::thread::Builder::new().name(name);
            match thread.spawn(move || desk.work()) {
                Ok(_) => line.threads += 1,
                Err(error) if line.threads == 0 => {
                    for waiting in line.waiting.drain(..) {
                        let why = format!("no thread for its search could be started: {error}");
                        let _ = waiting.answer.send(Err(why));
                    }
                }
                Err(error) => tracing::warn!(%error, "no further thread for searches"),
            }
        }
        self.changed.notify_all();
    }

    /// A thread's life.
    fn work(&self) {
        let mut line = self.lock();
        loop {
            if line.over {
                return;
            }
            let Some(next) = line.take(self.most) else {
                let waited = self.changed.wait(line);
                line = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(line);
            let Waiting {
                job,
                long,
                task,
                answer,
            } = next;
            let computed = compute(task);
            line = self.lock();
            line.busy.remove(&job);
            line.long -= usize::from(long);
            self.changed.notify_all();
            // Whoever waited may have gone.
            let _ = answer.send(computed);
        }
    }
}

impl Line {
    /// What is computed next, of a job of which nothing else is.
    fn take(&mut self, most: usize) -> Option<Waiting> {
        let full = self.long + 1 >= most;
        let mut waiting = self.waiting.iter();
        let may = |waiting: &Waiting| {
            let barred = waiting.long && full;
            !barred && !self.busy.contains(&waiting.job)
        };
        let at = waiting.position(may)?;
        let next = self.waiting.remove(at)?;
        self.busy.insert(next.job.clone());
        self.long += usize::from(next.long);
        Some(next)
    }
}

/// A panic is the job's own.
fn compute(task: Computation) -> Answer {
    // What it had is gone with it.
    let computed = catch_unwind(AssertUnwindSafe(|| task.run()));
    computed.unwrap_or_else(|panic| Err(format!("its search panicked: {}", said(&*panic))))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word")
}

#[cfg(test)]
mod tests;
