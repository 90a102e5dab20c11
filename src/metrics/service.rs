//! The service's own metrics.

use std::fmt;

use super::exposition::{Exposition, Labels};
use crate::{
    connection::counters::ConnectionCounters,
    db::Db,
    middleware::Requests,
    state::State,
    verification::{cache::Use, engine::Engine},
};

pub(super) fn tell(
    told: &mut Exposition<'_>,
    state: &State,
    requests: &Requests,
    connections: &ConnectionCounters,
) -> fmt::Result {
    told.info(
        "latchkey_build",
        "The version that runs.",
        &[("version", env!("CARGO_PKG_VERSION"))],
    )?;
    tell_requests(told, requests)?;
    tell_connections(told, connections)?;
    tell_verifications(told, &state.engine)?;
    tell_usage(told, &state.engine)?;
    tell_cache(told, &state.engine)?;
    tell_coherence(told, &state.engine)?;
    tell_database(told, &state.db)?;
    tell_hashing(told, state)?;
    tell_limits(told, &state.engine)
}

fn tell_requests(told: &mut Exposition<'_>, requests: &Requests) -> fmt::Result {
    let measured = requests.measured();
    let statuses: Vec<_> = measured
        .iter()
        .map(|alike| alike.status.to_string())
        .collect();
    let labels: Vec<_> = measured.iter().zip(&statuses).collect();
    let labels: Vec<_> = labels
        .into_iter()
        .map(|(alike, status)| {
            [
                ("method", alike.method),
                ("route", alike.route),
                ("status", status),
            ]
        })
        .collect();
    let series = labels.iter().zip(&measured);
    told.durations(
        "latchkey_http_request_duration_seconds",
        "Time from a request's head to its answer's, by method, route pattern and status.",
        series.map(|(labels, alike)| (labels as Labels<'_>, &alike.measured)),
    )
}

fn tell_connections(told: &mut Exposition<'_>, connections: &ConnectionCounters) -> fmt::Result {
    told.gauge(
        "latchkey_connections",
        "ConnectionCounters of clients that are open.",
        connections.open() as f64,
    )?;
    let refusals = connections.refusals();
    let refusals = refusals.map(|(reason, count)| ([("reason", reason)], count));
    told.counters(
        "latchkey_connections_refused",
        "ConnectionCounters for which there was no place, in the service or for the client's address.",
        refusals
            .iter()
            .map(|(labels, count)| (labels as Labels<'_>, *count)),
    )?;
    let answers = connections.own_answers();
    let answers = answers.map(|(status, count)| ([("status", status)], count));
    told.counters(
        "latchkey_unreadable_requests",
        "Requests that could not be read, or not in time, by the status of the answer.",
        answers
            .iter()
            .map(|(labels, count)| (labels as Labels<'_>, *count)),
    )
}

fn tell_verifications(told: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let checks = engine.checks();
    let labels: Vec<_> = checks
        .iter()
        .map(|checks| [("outcome", checks.outcome), ("source", checks.source)])
        .collect();
    let series = labels.iter().zip(&checks);
    told.counters(
        "latchkey_verifications",
        "Checks of API keys, by what came of them and what they went by.",
        series.map(|(labels, checks)| (labels as Labels<'_>, checks.count)),
    )
}

const PRESENT: Labels<'_> = &[("cache", "known")];
const MISSING: Labels<'_> = &[("cache", "unknown")];

fn tell_usage(told: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    told.gauge(
        "latchkey_usage_pending",
        "Counted checks that are not written to the database yet.",
        engine.usage().unwritten() as f64,
    )?;
    told.counter(
        "latchkey_usage_lost",
        "Counted checks that could not be kept until they could be written.",
        engine.usage().lost(),
    )
}

fn tell_cache(told: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let cache = engine.cache_usage();
    let both = |of: fn(&Use) -> f64| {
        let cache = cache.iter();
        let both = cache.flat_map(|cache| [(PRESENT, &cache.present), (MISSING, &cache.missing)]);
        both.map(move |(labels, cache)| (labels, of(cache)))
    };
    told.gauges(
        "latchkey_cache_entries",
        "Keys that are remembered, and digests that are remembered to be no key's.",
        both(|cache| cache.entries as f64),
    )?;
    let bytes = cache.iter().flat_map(|cache| {
        // Of a digest that is no key's nothing is kept elsewhere.
        let known = cache.present.bytes + cache.present.weight;
        [
            (PRESENT, known as f64),
            (MISSING, cache.missing.bytes as f64),
        ]
    });
    told.gauges("latchkey_cache_bytes", "KeyCache that this takes.", bytes)?;
    let hits = |is_unknown: bool| {
        let hits = engine.checks().into_iter();
        let hits = hits.filter(|checks| checks.source == "cache");
        let hits = hits.filter(|checks| (checks.outcome == "not_found") == is_unknown);
        hits.map(|checks| checks.count).sum::<u64>()
    };
    told.counters(
        "latchkey_cache_hits",
        "Checks that were answered from it.",
        [(PRESENT, hits(false)), (MISSING, hits(true))],
    )?;
    let evictions = cache.iter().flat_map(|cache| {
        [
            (
                &[("cache", "known"), ("reason", "full")] as Labels<'_>,
                cache.present.pushed_out,
            ),
            (
                &[("cache", "known"), ("reason", "changed")],
                cache.present.changed,
            ),
            (
                &[("cache", "unknown"), ("reason", "full")],
                cache.missing.pushed_out,
            ),
            (
                &[("cache", "unknown"), ("reason", "changed")],
                cache.missing.changed,
            ),
        ]
    });
    told.counters(
        "latchkey_cache_evictions",
        "Entries that were forgotten, because it was full or because they may have changed.",
        evictions,
    )?;
    told.gauge(
        "latchkey_last_used_waiting",
        "Keys whose last use is not written to the database yet.",
        engine.last_used_waiting() as f64,
    )
}

fn tell_coherence(told: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let lease = engine.lease();
    let none: Labels<'_> = &[];
    told.gauges(
        "latchkey_lease_seconds",
        "How long the lease on what is remembered lasts.",
        lease.map(|lease| (none, lease.lease.as_secs_f64())),
    )?;
    told.gauges(
        "latchkey_lease_age_seconds",
        "Time since the renewal was asked for that the lease goes by; missing before the first.",
        lease.and_then(|lease| Some((none, lease.age?.as_secs_f64()))),
    )?;
    told.gauges(
        "latchkey_lease_remaining_seconds",
        "Time until the lease ends; 0 without one.",
        lease.map(|lease| (none, lease.left.as_secs_f64())),
    )?;
    told.durations(
        "latchkey_change_propagation_seconds",
        "Time from a change's commit, such as a revocation's, until no instance goes by what was before.",
        [(none, &engine.coherence().propagation())],
    )?;
    told.gauge(
        "latchkey_instances",
        "Instances that serve the database, as of the last renewal.",
        engine.coherence().instances() as f64,
    )
}

fn tell_database(told: &mut Exposition<'_>, db: &Db) -> fmt::Result {
    let pool = db.usage();
    told.gauge(
        "latchkey_database_pool_size",
        "ConnectionCounters that the pool may have.",
        pool.size.into(),
    )?;
    told.gauges(
        "latchkey_database_connections",
        "ConnectionCounters that the pool has, in use or idle.",
        [
            (&[("state", "in_use")] as Labels<'_>, pool.in_use.into()),
            (&[("state", "idle")], pool.idle.into()),
        ],
    )?;
    let connection: Labels<'_> = &[("for", "connection")];
    let writer: Labels<'_> = &[("for", "writer")];
    let queues = || {
        let writers = pool.writers.map(|queue| (writer, queue));
        [(connection, pool.connections)].into_iter().chain(writers)
    };
    told.gauges(
        "latchkey_database_waiting",
        "Requests that wait for a connection, or on an embedded database for their turn to write.",
        queues().map(|(labels, queue)| (labels, queue.waiting as f64)),
    )?;
    told.counters(
        "latchkey_database_refused",
        "Requests that waited for it too long, or came when too many did.",
        queues().map(|(labels, queue)| (labels, queue.rejected)),
    )
}

fn tell_hashing(told: &mut Exposition<'_>, state: &State) -> fmt::Result {
    let queue = state.accounts.hashing();
    told.gauge(
        "latchkey_bcrypt_running",
        "Passwords that are hashed at the moment.",
        queue.running as f64,
    )?;
    told.gauge(
        "latchkey_bcrypt_waiting",
        "Requests that wait for their turn at hashing.",
        queue.waiting as f64,
    )?;
    told.counter(
        "latchkey_bcrypt_refused",
        "Requests that waited for it too long, or came when too many did.",
        queue.rejected,
    )
}

fn tell_limits(told: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let limits = engine.limits();
    let redis = limits.redis();
    let none: Labels<'_> = &[];
    told.gauges(
        "latchkey_redis_up",
        "Whether Redis answers; missing where there is none.",
        redis.map(|redis| (none, f64::from(u8::from(redis.is_connected())))),
    )?;
    told.counters(
        "latchkey_redis_errors",
        "Times that Redis did not answer, or not soon enough, or could not be connected to.",
        redis.map(|redis| (none, redis.errors())),
    )?;
    told.counters(
        "latchkey_rate_leases",
        "Times that units of a rate limit were taken in Redis.",
        redis.map(|redis| (none, redis.allotments())),
    )?;
    told.counter(
        "latchkey_quota_blocks",
        "Blocks of quotas that were taken in the database.",
        limits.quota_blocks_taken(),
    )
}
