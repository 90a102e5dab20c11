//! Counters for metrics: cheap to increment from any thread, rarely read.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// Number of stripes. Up to this number of threads, each has a stripe of its own.
const STRIPES: usize = 16;

thread_local! {
    /// Index of this thread's stripe; `usize::MAX` until it is assigned.
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Counters for many threads. Threads use different stripes, so that they do not contend for a cache line.
pub struct Striped<const N: usize> {
    stripes: Box<[Stripe<N>]>,
}

/// Counters of one stripe, aligned to two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Striped<N> {
    fn default() -> Self {
        let stripe = |_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            stripes: (0..STRIPES).map(stripe).collect(),
        }
    }
}

impl<const N: usize> Striped<N> {
    /// Adds one to a counter. Does nothing if the index is out of range.
    pub fn add(&self, counter: usize) {
        let stripe = self.stripes.get(stripe());
        if let Some(counter) = stripe.and_then(|stripe| stripe.0.get(counter)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the sum over all stripes, for each counter.
    pub fn sum(&self) -> [u64; N] {
        std::array::from_fn(|counter| {
            let of_stripe = |stripe: &Stripe<N>| stripe.0[counter].load(Ordering::Relaxed);
            self.stripes.iter().map(of_stripe).sum()
        })
    }
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    STRIPE.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        own.get()
    })
}

/// Histogram of durations. Bounds are in microseconds, in ascending order. A duration belongs to the first bucket whose
/// bound is not below it.
#[repr(align(128))]
pub struct Durations {
    bounds: &'static [u64],
    /// One bucket per bound, and one without a bound.
    buckets: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// Values of a [`Durations`] histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Upper bounds, in microseconds; the last bucket has none.
    pub bounds: &'static [u64],
    pub buckets: Vec<u64>,
    pub sum: Duration,
}

impl Durations {
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_nanos: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Linear search: most durations that are measured often belong to one of the first buckets.
        let bucket = self.bounds.iter().position(|bound| nanos <= bound * 1000);
        self.buckets[bucket.unwrap_or(self.bounds.len())].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn measured(&self) -> Measured {
        let buckets = self.buckets.iter();
        Measured {
            bounds: self.bounds,
            buckets: buckets.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)),
        }
    }
}

impl Measured {
    /// Adds the values of another histogram with the same bounds.
    pub fn add(&mut self, other: &Self) {
        for (bucket, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += other;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn striped_counters_sum_the_additions_of_all_threads() {
        let counters = Striped::<3>::default();
        std::thread::scope(|scope| {
            for thread in 0..2 * STRIPES {
                let counters = &counters;
                scope.spawn(move || (0..1000).for_each(|_| counters.add(thread % 2)));
            }
        });
        counters.add(3);
        assert_eq!(counters.sum(), [16_000, 16_000, 0]);
    }

    #[test]
    fn duration_is_counted_in_the_first_bucket_whose_bound_is_not_below_it() {
        let durations = Durations::new(&[100, 1000]);
        for nanos in [0, 100_000, 100_001, 1_000_000, 1_000_001, u64::MAX / 4] {
            durations.observe(Duration::from_nanos(nanos));
        }
        let mut measured = durations.measured();
        assert_eq!(measured.buckets, [2, 2, 2]);
        measured.add(&measured.clone());
        assert_eq!(measured.buckets, [4, 4, 4]);
        assert!(measured.sum > Duration::from_nanos(u64::MAX / 2));
    }
}
