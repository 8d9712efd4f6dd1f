//! Prepares batches ahead of the training loop, on a thread of its own.
//!
//! Which samples make a step is the caller's plan; this only gathers them, in order.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Batch, Part};

/// The shards of one step after the other. Dropping it stops the thread.
#[derive(Debug)]
pub struct Loader {
    /// `None` once the loader is being dropped.
    steps: Option<Receiver<Vec<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// `plan` yields for each step the positions in `part` of each shard (a shard may be empty).
    /// At most `capacity` steps (at least 1) are prepared and not yet taken, besides the one in work.
    ///
    /// # Panics
    /// If the system cannot start a thread.
    pub fn start<I>(part: Part, plan: I, capacity: usize) -> Self
    where
        I: Iterator<Item = Vec<Vec<usize>>> + Send + 'static,
    {
        let (sender, steps) = sync_channel(capacity.max(1));
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || prepare(&part, plan, &sender))
            .expect("the system can start a thread");
        Self {
            steps: Some(steps),
            thread: Some(thread),
        }
    }

    /// The shards of the next step, or `None` after the plan's last.
    ///
    /// # Panics
    /// With the panic of the thread, if it had one (a position outside of the part, a plan that
    /// panics): the attempt that asked for these samples must not go on without them.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Vec<Batch>> {
        let next = self.steps.as_ref().and_then(|steps| steps.recv().ok());
        if next.is_none()
            && let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        next
    }
}

impl Iterator for Loader {
    type Item = Vec<Batch>;

    fn next(&mut self) -> Option<Vec<Batch>> {
        Loader::next(self)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Without a receiver the thread's next send fails, and it ends.
        self.steps = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the loader's thread panicked after its batches were given up");
        }
    }
}

fn prepare(
    part: &Part,
    plan: impl Iterator<Item = Vec<Vec<usize>>>,
    steps: &SyncSender<Vec<Batch>>,
) {
    for shards in plan {
        let batches = shards
            .iter()
            .map(|positions| part.gather(positions))
            .collect();
        if steps.send(batches).is_err() {
            return;
        }
    }
}
