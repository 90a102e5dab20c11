//! The process, as Prometheus's client libraries tell of it. Linux only.

use std::{fmt, fs, time::Duration};

use super::exposition::Exposition;

pub(super) fn tell(told: &mut Exposition<'_>, started: Duration) -> fmt::Result {
    told.gauge(
        "process_start_time_seconds",
        "Start time of the process since the Unix epoch, in seconds.",
        started.as_secs_f64(),
    )?;
    if let Some(used) = Used::read() {
        told.seconds(
            "process_cpu_seconds",
            "Processor time spent by the process, in seconds.",
            used.cpu_seconds,
        )?;
        told.gauge(
            "process_resident_memory_bytes",
            "Resident memory of the process, in bytes.",
            used.resident_bytes,
        )?;
        told.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory of the process, in bytes.",
            used.virtual_bytes,
        )?;
        told.gauge("process_threads", "Threads of the process.", used.threads)?;
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        told.gauge(
            "process_open_fds",
            "File descriptors that the process has open.",
            open.count() as f64,
        )?;
    }
    if let Some(most) = max_fds() {
        told.gauge(
            "process_max_fds",
            "File descriptors that the process may have open.",
            most,
        )?;
    }
    Ok(())
}

struct Used {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    threads: f64,
}

impl Used {
    /// From `/proc/self/stat` (proc(5)).
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name, in parentheses, may have anything in it. What follows it begins with the third field.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as f64;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

/// The soft limit, from `/proc/self/limits`.
fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
