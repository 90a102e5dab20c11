//! A clock that nobody sets, and that goes on while the machine is suspended: what leases are counted
//! on. The one for the time of day is [`super::clock`].

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment on this machine's clock, in nanoseconds. It means nothing to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub(crate) u64);

impl Tick {
    /// This much later.
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long it is from `earlier` to `self`; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Tells ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock {
    /// In a simulation: how many of its nanoseconds pass in one of tokio's.
    #[cfg(test)]
    pub(crate) simulated: Option<(tokio::time::Instant, f64)>,
}

/// On Linux, `CLOCK_MONOTONIC` stands still while the machine is suspended; elsewhere it does not.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

impl BootClock {
    /// How long a timer has to be to last this long on this clock.
    pub fn timer(&self, duration: Duration) -> Duration {
        #[cfg(test)]
        if let Some((_, rate)) = self.simulated {
            return duration.div_f64(rate);
        }
        duration
    }

    pub fn now(&self) -> Tick {
        #[cfg(test)]
        if let Some((start, rate)) = self.simulated {
            return Tick((start.elapsed().as_nanos() as f64 * rate) as u64);
        }
        let time = clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Tick(seconds * 1_000_000_000 + nanos)
    }
}
