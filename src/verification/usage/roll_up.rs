//! Background task that rolls usage up from hours to days and applies the retention settings.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    config::UsageConfig,
    db::{Conn, Db},
    domain::{
        clock::{Clock, UtcTime},
        error::Error,
        usage::days_before,
    },
    models::usage::{
        roll_up::{self, Retention},
        writing,
    },
};

/// Number of days after which a silent writer is deleted. No writer waits that long for the result of a write.
const WRITER_RETENTION_DAYS: u32 = 7;

/// Rolls usage up at each interval. Never returns.
pub(super) async fn roll_up_every(db: &Db, clock: &Clock, config: &UsageConfig) {
    loop {
        sleep(config.roll_up_interval).await;
        if let Err(error) = roll_up(db, clock.now(), config).await {
            let cause = error.cause();
            tracing::warn!(cause, "failed to roll up usage; retrying");
        }
    }
}

async fn roll_up(db: &Db, now: UtcTime, config: &UsageConfig) -> Result<(), Error> {
    let hourly = config.hourly_retention_days;
    let daily = config.daily_retention_days.max(hourly);
    let retention = Retention {
        hours_from: days_before(now, hourly),
        days_from: days_before(now, daily),
    };
    let is_done = move |conn: &mut Conn| roll_up::is_done(conn, retention);
    if db.read(is_done).await? {
        return Ok(());
    }
    let mut rows = 0;
    loop {
        let started = Instant::now();
        let step = move |conn: &mut Conn| Ok(roll_up::step(conn, retention)?);
        match db.write_in_background(step).await? {
            Some(moved) => rows += moved,
            None => break,
        }
        // Pauses as long as the step took, so that other writers get half of the time.
        sleep(started.elapsed().max(Duration::from_millis(1))).await;
    }
    let silent_since = days_before(now, WRITER_RETENTION_DAYS);
    db.write_in_background(move |conn| Ok(writing::delete_silent_writers(conn, silent_since)?))
        .await?;
    tracing::info!(rows, "rolled up hourly usage into days");
    Ok(())
}
