//! Monotonic clock that cannot be set and that continues while the machine is suspended. Leases are measured on it.
//! The clock for the time of day is in [`super::clock`].

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Moment on this machine's clock, in nanoseconds. It has no meaning on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub(crate) u64);

impl Tick {
    /// Returns the moment `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the time from `earlier` to `self`; zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Source of ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock {
    /// In a simulation: the start, and the number of nanoseconds of this clock per nanosecond of tokio's.
    pub(crate) simulated: Option<(tokio::time::Instant, f64)>,
}

/// Clock of the system. On Linux, `CLOCK_MONOTONIC` stops while the machine is suspended; elsewhere it does not.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

impl BootClock {
    /// Returns the duration of a tokio timer that lasts `duration` on this clock.
    pub fn timer(&self, duration: Duration) -> Duration {
        if let Some((_, rate)) = self.simulated {
            return duration.div_f64(rate);
        }
        duration
    }

    pub fn now(&self) -> Tick {
        if let Some((start, rate)) = self.simulated {
            return Tick((start.elapsed().as_nanos() as f64 * rate) as u64);
        }
        let time = clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Tick(seconds * 1_000_000_000 + nanos)
    }
}
