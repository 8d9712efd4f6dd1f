//! The lease's clock: it goes on while the machine is suspended, as etcd's own does elsewhere.

use std::time::Duration;

/// Linux stops its monotonic clock during a suspension, and has this one beside it; elsewhere the
/// monotonic one goes on.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// A time of this machine's, since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    pub(super) fn now() -> Self {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a whole timespec that outlives the call, and nothing else refers to it.
        #[allow(
            unsafe_code,
            reason = "std has no clock that goes on during a suspension"
        )]
        let told = unsafe { libc::clock_gettime(CLOCK, &raw mut time) };
        if told != 0 {
            // Never, on a kernel since 2011. A leader without a clock holds nothing.
            return Self(Duration::MAX);
        }
        Self(Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        ))
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// How long it is from `now` until this; zero once it has passed.
    pub(super) fn from(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }

    pub(super) fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel tells the time since its start, suspensions included, in hundredths of a second.
    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_the_time_since_the_machine_was_started() {
        let before = Moment::now().0.as_secs_f64();
        let told = std::fs::read_to_string("/proc/uptime").unwrap();
        let after = Moment::now().0.as_secs_f64();
        let told: f64 = told.split(' ').next().unwrap().parse().unwrap();
        assert!(
            before - 0.02 <= told && told <= after + 0.02,
            "{before} {told} {after}"
        );
    }

    #[test]
    fn spans_end_at_zero() {
        let now = Moment::now();
        let later = now.after(Duration::from_secs(3));
        assert_eq!(later.from(now), Duration::from_secs(3));
        assert_eq!(now.from(later), Duration::ZERO);
        assert!(later > now);
    }
}
