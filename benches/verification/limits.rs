//! Requests per second with keys whose limits allow every request, and with keys whose limits reject every request.

use latchkey::domain::limit::{Period, Quota, RateLimit};

use crate::{
    print_ratio,
    rates::{BARE, bare, protected},
    report_ratio,
    support::{
        json_member,
        keys::{Limits, Table},
        load::{Load, rates},
        post,
        program::Program,
        redis::Redis,
        send,
    },
};

/// Measures one key with each combination of limits, counted in the process of the service.
pub(super) fn in_memory(address: &str, authorization: &str) {
    let loads = Limits::all().map(|(_, limits)| allowed(address, authorization, limits));
    let bare_load = bare(address);
    let [none, rate, quota, both] = &loads;
    let [bare_rate, with @ ..] = rates([&bare_load, none, rate, quota, both]);
    println!("  {BARE} {:.0}/s", bare_rate.per_second);
    for ((limits, _), rate) in Limits::all().into_iter().zip(with) {
        let name = format!("/protected, 1 key with {limits}");
        report_ratio(&name, rate, BARE, 0.8);
    }
    let [rate, quota] = used_up().map(|limits| rejected(address, authorization, limits));
    let [_, rate, quota] = rates([&bare_load, &rate, &quota]);
    print_ratio("429, 1 key that is over its rate limit", rate, BARE);
    print_ratio("429, 1 key that has used up its quota", quota, BARE);
}

/// Measures one key with each combination of limits, with rate limits counted in Redis.
pub(super) fn in_redis(database_url: &str, authorization: &str, redis: &Redis) {
    let program = Program::start_with(database_url, &[("REDIS_URL", &redis.url)]);
    let address = &program.address;
    let [_, (_, rate), _, (_, both)] = Limits::all();
    let [rate, both] = [rate, both].map(|limits| allowed(address, authorization, limits));
    let over = rejected(address, authorization, used_up()[0]);
    let [bare, rate, both, over] = rates([&bare(address), &rate, &both, &over]);
    println!("  {BARE} {:.0}/s", bare.per_second);
    report_ratio("1 key with a rate limit, in Redis", rate, BARE, 0.75);
    report_ratio("1 key with both, in Redis", both, BARE, 0.75);
    print_ratio(
        "429, 1 key that is over its rate limit, in Redis",
        over,
        BARE,
    );
    program.stop();
}

/// Measures requests that cycle through these keys, with a full table.
pub(super) fn with_many_keys(database_url: &str, keys: &[String], redis: Option<&Redis>) {
    let [_, rate, quota, both] = Limits::all();
    let measure = |(name, limits), redis: Option<&Redis>| {
        Table::open(database_url).set_limits(keys.len(), limits);
        let url = redis.map(|redis| ("REDIS_URL", redis.url.as_str()));
        let program = Program::start_with(database_url, url.as_slice());
        let requests = keys.iter().map(|key| protected(key)).collect();
        let load = Load::new(&program.address, 200, requests);
        load.send_all();
        let [_, rate] = rates([&bare(&program.address), &load]);
        let suffix = if redis.is_some() { ", in Redis" } else { "" };
        let name = format!("{} keys in turn with {name}{suffix}", keys.len());
        print_ratio(&name, rate, BARE);
        program.stop();
    };
    for limits in [rate, quota, both] {
        measure(limits, None);
    }
    if redis.is_some() {
        for limits in [rate, both] {
            measure(limits, redis);
        }
    }
}

/// Returns limits that one request uses up.
fn used_up() -> [Limits; 2] {
    [
        Limits {
            rate: RateLimit::new(1, 24 * 3600),
            quota: None,
        },
        Limits {
            rate: None,
            quota: Quota::new(1, Period::Total),
        },
    ]
}

/// Load with a key whose limits allow every request.
fn allowed(address: &str, authorization: &str, limits: Limits) -> Load {
    let key = create(address, authorization, limits);
    Load::new(address, 200, vec![protected(&key)])
}

/// Load with a key whose limit is used up.
fn rejected(address: &str, authorization: &str, limits: Limits) -> Load {
    let request = protected(&create(address, authorization, limits));
    send(address, &request);
    Load::new(address, 429, vec![request])
}

fn create(address: &str, authorization: &str, limits: Limits) -> String {
    let body = serde_json::json!({"rate_limit": limits.rate, "quota": limits.quota});
    let created = send(
        address,
        &post("/api-keys", authorization, &body.to_string()),
    );
    json_member(&created, "api_key")
}
