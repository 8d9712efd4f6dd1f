//! Processor time of this thread where the system tells it, and else time.

use std::time::Instant;

pub(crate) struct Clock {
    begun: Instant,
    cpu_ns: Option<u64>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
            cpu_ns: cpu_ns(),
        }
    }

    pub(crate) fn ms(&self) -> f64 {
        let spent = cpu_ns().zip(self.cpu_ns);
        spent.map_or_else(
            || self.begun.elapsed().as_secs_f64() * 1e3,
            |(now, then)| (now - then) as f64 / 1e6,
        )
    }
}

/// What the scheduler of Linux has counted: to a tick, which long windows do not mind.
fn cpu_ns() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split_whitespace().next()?.parse().ok()
}
