//! Metrics of the process, with the names that Prometheus's client libraries use. Linux only.

use std::{fmt, fs, time::Duration};

use super::exposition::Exposition;

pub(super) fn encode(out: &mut Exposition<'_>, started: Duration) -> fmt::Result {
    out.gauge(
        "process_start_time_seconds",
        "Start time of the process since the Unix epoch, in seconds.",
        started.as_secs_f64(),
    )?;
    if let Some(usage) = ProcessUsage::read() {
        out.seconds(
            "process_cpu_seconds",
            "Processor time spent by the process, in seconds.",
            usage.cpu_seconds,
        )?;
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory of the process, in bytes.",
            usage.resident_bytes,
        )?;
        out.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory of the process, in bytes.",
            usage.virtual_bytes,
        )?;
        out.gauge(
            "process_threads",
            "Number of threads of the process.",
            usage.threads,
        )?;
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.gauge(
            "process_open_fds",
            "Number of open file descriptors of the process.",
            open.count() as f64,
        )?;
    }
    if let Some(limit) = max_fds() {
        out.gauge(
            "process_max_fds",
            "Maximum number of open file descriptors of the process.",
            limit,
        )?;
    }
    Ok(())
}

struct ProcessUsage {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    threads: f64,
}

impl ProcessUsage {
    /// Reads `/proc/self/stat` (proc(5)).
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may contain any character. The rest starts with the third field.
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

/// Returns the soft limit of open file descriptors, from `/proc/self/limits`.
fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
