//! Sees to it that usage is kept by the hour, and by the day, for as long as it is to be.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    core::{
        clock::{Clock, UtcTime},
        config::UsageConfig,
        error::Error,
        usage::days_before,
    },
    db::{Conn, Db},
    models::usage::{
        roll_up::{self, Kept},
        writing,
    },
};

/// Nobody who has not written for as long waits to hear of what was written last.
const WRITERS_KEPT_DAYS: u32 = 7;

pub(super) async fn roll_up_every(db: &Db, clock: &Clock, config: &UsageConfig) {
    loop {
        sleep(config.roll_up_interval).await;
        if let Err(error) = roll_up(db, clock.now(), config).await {
            let cause = error.cause();
            tracing::warn!(cause, "cannot roll usage up; trying again");
        }
    }
}

async fn roll_up(db: &Db, now: UtcTime, config: &UsageConfig) -> Result<(), Error> {
    let hourly = config.hourly_retention_days;
    let daily = config.daily_retention_days.max(hourly);
    let kept = Kept {
        hours_from: days_before(now, hourly),
        days_from: days_before(now, daily),
    };
    if db.read(move |conn| roll_up::is_done(conn, kept)).await? {
        return Ok(());
    }
    let mut rows = 0;
    loop {
        let began = Instant::now();
        let step = move |conn: &mut Conn| Ok(roll_up::step(conn, kept)?);
        match db.write_in_background(step).await? {
            Some(moved) => rows += moved,
            None => break,
        }
        // As long again belongs to others.
        sleep(began.elapsed().max(Duration::from_millis(1))).await;
    }
    let silent_since = days_before(now, WRITERS_KEPT_DAYS);
    db.write_in_background(move |conn| Ok(writing::forget_writers(conn, silent_since)?))
        .await?;
    tracing::info!(rows, "rolled usage up to days");
    Ok(())
}
