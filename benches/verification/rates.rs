//! Requests per second.

use crate::{
    report, report_ratio,
    support::{
        ask, get, keys,
        load::{Load, half_beside, rates},
        nginx::Nginx,
        post,
    },
};

pub(super) const BARE: &str = "/health/live";
/// Keys in one call of `/verify/batch`.
const BATCH: usize = 100;
/// Three times as many as are remembered not to exist, so that each is a new one whenever it comes.
const UNKNOWN: usize = 300_000;

/// With no other key in the table.
pub(super) fn with_one_key(address: &str, key: &str) {
    let bare = bare(address);
    let one = Load::new(address, 200, vec![protected(key)]);
    let [bare, one] = rates([&bare, &one]);
    println!("  {BARE} {:.0}/s", bare.per_second);
    report_ratio("/protected, 1 key in the table", one, BARE, 0.85);
}

/// With a full table, of which requests show `keys`.
pub(super) fn with_many_keys(address: &str, asking_key: &str, keys: &[String]) {
    let good = Load::new(
        address,
        200,
        keys.iter().map(|key| protected(key)).collect(),
    );
    good.send_all();
    checks(address, &good, keys);
    bad_keys(address, &good);
    calls_of_verify(address, asking_key, keys);
}

fn checks(address: &str, good: &Load, keys: &[String]) {
    let body = ask(address, &protected(&keys[0]));
    let body = body.split("\r\n\r\n").nth(1).unwrap();
    let bare = bare(address);
    let what = format!(
        "/protected, a full table, each request another of {}",
        keys.len()
    );
    let [bare, rate] = rates([&bare, good]);
    println!("  {BARE} {:.0}/s", bare.per_second);
    report_ratio(&what, rate, BARE, 0.85);

    let Some(nginx) = Nginx::start(keys, body) else {
        return println!("  nginx is not installed");
    };
    let requests = keys.iter().map(|key| protected(key)).collect();
    let beside = Load::new(&nginx.address, 200, requests);
    let [beside, rate] = rates([&beside, good]);
    println!(
        "  nginx with the same keys in a map {:.0}/s",
        beside.per_second
    );
    report_ratio("the same beside nginx", rate, "nginx", 0.9);
}

fn bad_keys(address: &str, good: &Load) {
    let bare = bare(address);
    let garbage = Load::new(address, 401, vec![protected("not-one-of-ours")]);
    let unknown = keys::generate(UNKNOWN);
    let unknown = unknown.iter().map(|key| protected(key)).collect();
    let unknown = Load::new(address, 401, unknown);
    let [_, garbage, of_unknown] = rates([&bare, &garbage, &unknown]);
    report_ratio("garbage", garbage, BARE, 0.9);
    let what = "well-formed keys that there are not, each another one";
    report_ratio(what, of_unknown, BARE, 0.8);
    let [_, beside] = half_beside(good, &unknown);
    let what = "good keys on half of the connections, such keys on the others";
    report_ratio(what, beside, "good keys on all", 0.9);
}

fn calls_of_verify(address: &str, asking_key: &str, keys: &[String]) {
    let header = format!("x-api-key: {asking_key}\r\n");
    let question = |key: &String| format!(r#"{{"api_key":"{key}"}}"#);
    let single = |key| post("/verify", &header, &question(key));
    let batch = |keys: &[String]| {
        let questions: Vec<_> = keys.iter().map(question).collect();
        let body = format!(r#"{{"keys":[{}]}}"#, questions.join(","));
        post("/verify/batch", &header, &body)
    };
    let bare = bare(address);
    let single = Load::new(address, 200, keys.iter().map(single).collect());
    let batch = Load::new(address, 200, keys.chunks(BATCH).map(batch).collect());
    let [_, rate] = rates([&bare, &single]);
    report_ratio("POST /verify", rate, BARE, 0.6);
    let [_, rate] = rates([&single, &batch]);
    let times = BATCH as f64 * rate.of_first;
    report(
        &format!("POST /verify/batch, {BATCH} keys in each"),
        &format!(
            "{:>8.0} keys/s, {times:.1} times as many",
            BATCH as f64 * rate.per_second
        ),
        "at least 20 times",
        times >= 20.0,
    );
}

pub(super) fn bare(address: &str) -> Load {
    Load::new(address, 200, vec![get(BARE, "")])
}

pub(super) fn protected(key: &str) -> String {
    get("/protected", &format!("x-api-key: {key}\r\n"))
}
