//! Metrics of the service.

use std::fmt;

use super::exposition::{Exposition, Labels};
use crate::{
    connection::counters::ConnectionCounters,
    db::Db,
    middleware::Requests,
    state::State,
    verification::{cache::Use, engine::Engine},
};

pub(super) fn encode(
    out: &mut Exposition<'_>,
    state: &State,
    requests: &Requests,
    connections: &ConnectionCounters,
) -> fmt::Result {
    out.info(
        "latchkey_build",
        "Version of the running program; always 1.",
        &[("version", env!("CARGO_PKG_VERSION"))],
    )?;
    encode_requests(out, requests)?;
    encode_connections(out, connections)?;
    encode_verifications(out, &state.engine)?;
    encode_usage(out, &state.engine)?;
    encode_cache(out, &state.engine)?;
    encode_coherence(out, &state.engine)?;
    encode_database(out, &state.db)?;
    encode_hashing(out, state)?;
    encode_limits(out, &state.engine)
}

fn encode_requests(out: &mut Exposition<'_>, requests: &Requests) -> fmt::Result {
    let measured = requests.measured();
    let statuses: Vec<_> = measured
        .iter()
        .map(|group| group.status.to_string())
        .collect();
    let labels: Vec<_> = measured.iter().zip(&statuses).collect();
    let labels: Vec<_> = labels
        .into_iter()
        .map(|(group, status)| {
            [
                ("method", group.method),
                ("route", group.route),
                ("status", status),
            ]
        })
        .collect();
    let series = labels.iter().zip(&measured);
    out.durations(
        "latchkey_http_request_duration_seconds",
        "Time from the headers of a request to the headers of its response, in seconds.",
        series.map(|(labels, group)| (labels as Labels<'_>, &group.measured)),
    )
}

fn encode_connections(out: &mut Exposition<'_>, connections: &ConnectionCounters) -> fmt::Result {
    out.gauge(
        "latchkey_connections",
        "Number of open client connections.",
        connections.open() as f64,
    )?;
    let rejections = connections.rejections();
    let rejections = rejections.map(|(reason, count)| ([("reason", reason)], count));
    out.counters(
        "latchkey_connections_refused",
        "Number of connections rejected because the service or the client's address had its maximum.",
        rejections
            .iter()
            .map(|(labels, count)| (labels as Labels<'_>, *count)),
    )?;
    let unreadable = connections.unreadable_requests();
    let unreadable = unreadable.map(|(status, count)| ([("status", status)], count));
    out.counters(
        "latchkey_unreadable_requests",
        "Number of requests that could not be read, or not in time, by status of the response.",
        unreadable
            .iter()
            .map(|(labels, count)| (labels as Labels<'_>, *count)),
    )
}

fn encode_verifications(out: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let checks = engine.checks();
    let labels: Vec<_> = checks
        .iter()
        .map(|checks| [("outcome", checks.outcome), ("source", checks.source)])
        .collect();
    let series = labels.iter().zip(&checks);
    out.counters(
        "latchkey_verifications",
        "Number of API key checks, by outcome and source of the decision.",
        series.map(|(labels, checks)| (labels as Labels<'_>, checks.count)),
    )
}

const PRESENT: Labels<'_> = &[("cache", "known")];
const MISSING: Labels<'_> = &[("cache", "unknown")];

fn encode_usage(out: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    out.gauge(
        "latchkey_usage_pending",
        "Number of counted checks that are not yet written to the database.",
        engine.usage().unwritten() as f64,
    )?;
    out.counter(
        "latchkey_usage_lost",
        "Number of counted checks that were dropped before they could be written to the database.",
        engine.usage().lost(),
    )
}

fn encode_cache(out: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let cache = engine.cache_usage();
    let both = |of: fn(&Use) -> f64| {
        let cache = cache.iter();
        let both = cache.flat_map(|cache| [(PRESENT, &cache.present), (MISSING, &cache.missing)]);
        both.map(move |(labels, cache)| (labels, of(cache)))
    };
    out.gauges(
        "latchkey_cache_entries",
        "Number of entries in the cache of keys (known) and in the negative cache (unknown).",
        both(|cache| cache.entries as f64),
    )?;
    let bytes = cache.iter().flat_map(|cache| {
        // Entries of the negative cache hold no further data elsewhere.
        let known = cache.present.bytes + cache.present.weight;
        [
            (PRESENT, known as f64),
            (MISSING, cache.missing.bytes as f64),
        ]
    });
    out.gauges(
        "latchkey_cache_bytes",
        "Memory used by the cache, in bytes.",
        bytes,
    )?;
    let hits = |is_unknown: bool| {
        let hits = engine.checks().into_iter();
        let hits = hits.filter(|checks| checks.source == "cache");
        let hits = hits.filter(|checks| (checks.outcome == "not_found") == is_unknown);
        hits.map(|checks| checks.count).sum::<u64>()
    };
    out.counters(
        "latchkey_cache_hits",
        "Number of checks decided from the cache.",
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
    out.counters(
        "latchkey_cache_evictions",
        "Number of cache entries evicted because the cache was full, or invalidated because they may have changed.",
        evictions,
    )?;
    out.gauge(
        "latchkey_last_used_waiting",
        "Number of keys whose last use is not yet written to the database.",
        engine.last_used_waiting() as f64,
    )
}

fn encode_coherence(out: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let lease = engine.lease();
    let none: Labels<'_> = &[];
    out.gauges(
        "latchkey_lease_seconds",
        "Duration of the lease on the cache, in seconds.",
        lease.map(|lease| (none, lease.lease.as_secs_f64())),
    )?;
    out.gauges(
        "latchkey_lease_age_seconds",
        "Time since the start of the renewal that the lease is based on, in seconds; missing before the first.",
        lease.and_then(|lease| Some((none, lease.age?.as_secs_f64()))),
    )?;
    out.gauges(
        "latchkey_lease_remaining_seconds",
        "Time until the lease expires, in seconds; 0 without a lease.",
        lease.map(|lease| (none, lease.left.as_secs_f64())),
    )?;
    out.durations(
        "latchkey_change_propagation_seconds",
        "Time from the commit of a change, such as a revocation, until it is effective on all instances, in seconds.",
        [(none, &engine.coherence().propagation())],
    )?;
    out.gauge(
        "latchkey_instances",
        "Number of instances that use the database, as of the last renewal.",
        engine.coherence().instances() as f64,
    )
}

fn encode_database(out: &mut Exposition<'_>, db: &Db) -> fmt::Result {
    let pool = db.usage();
    out.gauge(
        "latchkey_database_pool_size",
        "Maximum number of database connections in the pool.",
        pool.size.into(),
    )?;
    out.gauges(
        "latchkey_database_connections",
        "Number of database connections in the pool, in use or idle.",
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
    out.gauges(
        "latchkey_database_waiting",
        "Number of requests that wait for a database connection, or for the single writer of an embedded database.",
        queues().map(|(labels, queue)| (labels, queue.waiting as f64)),
    )?;
    out.counters(
        "latchkey_database_refused",
        "Number of requests rejected because they waited too long for the database or its wait queue was full.",
        queues().map(|(labels, queue)| (labels, queue.rejected)),
    )
}

fn encode_hashing(out: &mut Exposition<'_>, state: &State) -> fmt::Result {
    let queue = state.accounts.hashing();
    out.gauge(
        "latchkey_bcrypt_running",
        "Number of passwords that are being hashed.",
        queue.running as f64,
    )?;
    out.gauge(
        "latchkey_bcrypt_waiting",
        "Number of requests that wait for password hashing.",
        queue.waiting as f64,
    )?;
    out.counter(
        "latchkey_bcrypt_refused",
        "Number of requests rejected because they waited too long for password hashing or its wait queue was full.",
        queue.rejected,
    )
}

fn encode_limits(out: &mut Exposition<'_>, engine: &Engine) -> fmt::Result {
    let limits = engine.limits();
    let redis = limits.redis();
    let none: Labels<'_> = &[];
    out.gauges(
        "latchkey_redis_up",
        "1 if Redis responds, 0 if not; missing without Redis.",
        redis.map(|redis| (none, f64::from(u8::from(redis.is_connected())))),
    )?;
    out.counters(
        "latchkey_redis_errors",
        "Number of Redis connections and commands that failed or timed out.",
        redis.map(|redis| (none, redis.errors())),
    )?;
    out.counters(
        "latchkey_rate_leases",
        "Number of allotments of rate limit tokens taken from Redis.",
        redis.map(|redis| (none, redis.allotments())),
    )?;
    out.counter(
        "latchkey_quota_blocks",
        "Number of quota blocks reserved in the database.",
        limits.quota_blocks_taken(),
    )
}
