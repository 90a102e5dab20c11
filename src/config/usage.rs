//! How long the use of keys is kept, and how often it is written.

use std::time::Duration;

use clap::Args;

use super::parse::whole_number;

/// What is kept of the use of keys.
#[derive(Debug, Clone, Copy, Args)]
pub struct UsageConfig {
    /// For how many days usage is kept by the hour, up to 731. Then it is rolled up to days.
    #[arg(long = "usage-hourly-retention-days", env = "USAGE_HOURLY_RETENTION_DAYS",
          default_value_t = 90, value_parser = whole_number::<u32>(1..=731))]
    pub hourly_retention_days: u32,

    /// For how many days usage is kept by the day, up to 3653; never fewer than by the hour.
    #[arg(long = "usage-daily-retention-days", env = "USAGE_DAILY_RETENTION_DAYS",
          default_value_t = 731, value_parser = whole_number::<u32>(1..=3653))]
    pub daily_retention_days: u32,

    /// How often counts are written. The contract allows five seconds.
    #[arg(skip = Duration::from_secs(1))]
    pub flush_interval: Duration,

    /// How often it is written when keys were last used. The contract allows a minute.
    #[arg(skip = Duration::from_secs(15))]
    pub last_used_interval: Duration,

    /// How often it is looked whether there are hours to roll up.
    #[arg(skip = Duration::from_secs(300))]
    pub roll_up_interval: Duration,

    /// How many counts may wait to be written, apart by key, hour and outcome: some 50 MB. The database must
    /// have been out of reach for long for that.
    #[arg(skip = 500_000_usize)]
    pub max_pending: usize,
}
