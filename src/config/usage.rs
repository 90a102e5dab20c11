//! Settings of usage records: how long they are kept, and how often they are written.

use std::time::Duration;

use clap::Args;

use super::parse::whole_number;

/// Settings of usage records.
#[derive(Debug, Clone, Copy, Args)]
pub struct UsageConfig {
    /// Number of days for which usage per hour is kept, at most 731. Older hours are rolled up into days.
    #[arg(long = "usage-hourly-retention-days", env = "USAGE_HOURLY_RETENTION_DAYS",
          default_value_t = 90, value_parser = whole_number::<u32>(1..=731))]
    pub hourly_retention_days: u32,

    /// Number of days for which usage per day is kept, at most 3653. Raised to USAGE_HOURLY_RETENTION_DAYS if lower.
    #[arg(long = "usage-daily-retention-days", env = "USAGE_DAILY_RETENTION_DAYS",
          default_value_t = 731, value_parser = whole_number::<u32>(1..=3653))]
    pub daily_retention_days: u32,

    /// Interval between writes of usage counts. The contract allows five seconds.
    #[arg(skip = Duration::from_secs(1))]
    pub flush_interval: Duration,

    /// Interval between writes of the time when keys were last used. The contract allows a minute.
    #[arg(skip = Duration::from_secs(15))]
    pub last_used_interval: Duration,

    /// Interval between checks for hours to roll up.
    #[arg(skip = Duration::from_secs(300))]
    pub roll_up_interval: Duration,

    /// Maximum number of counts (one per key, hour and outcome) that wait to be written: about 50 MB. Only a long
    /// outage of the database reaches it.
    #[arg(skip = 500_000_usize)]
    pub max_pending: usize,
}
