//! Requests per second with valid and invalid keys, and with `/verify`.

use crate::{
    report, report_ratio,
    support::{
        get, keys,
        load::{Load, half_beside, rates},
        nginx::Nginx,
        post, send,
    },
};

/// Route without a check of a key, as the baseline.
pub(super) const BARE: &str = "/health/live";
/// Number of keys in one call of `/verify/batch`.
const BATCH: usize = 100;
/// Number of unknown keys: three times the size of the negative cache, so that each lookup is a miss.
const UNKNOWN: usize = 300_000;

/// Measures requests with the only key in the table.
pub(super) fn with_one_key(address: &str, key: &str) {
    let bare = bare(address);
    let one = Load::new(address, 200, vec![protected(key)]);
    let [bare, one] = rates([&bare, &one]);
    println!("  {BARE} {:.0}/s", bare.per_second);
    report_ratio("/protected, 1 key in the table", one, BARE, 0.85);
}

/// Measures requests that cycle through `keys`, with a full table.
pub(super) fn with_many_keys(address: &str, verifier_key: &str, keys: &[String]) {
    let valid = Load::new(
        address,
        200,
        keys.iter().map(|key| protected(key)).collect(),
    );
    valid.send_all();
    checks(address, &valid, keys);
    invalid_keys(address, &valid);
    calls_of_verify(address, verifier_key, keys);
}

fn checks(address: &str, valid: &Load, keys: &[String]) {
    let body = send(address, &protected(&keys[0]));
    let body = body.split("\r\n\r\n").nth(1).unwrap();
    let bare = bare(address);
    let name = format!("/protected, a full table, {} keys in turn", keys.len());
    let [bare, rate] = rates([&bare, valid]);
    println!("  {BARE} {:.0}/s", bare.per_second);
    report_ratio(&name, rate, BARE, 0.85);

    let Some(nginx) = Nginx::start(keys, body) else {
        return println!("  nginx is not installed");
    };
    let requests = keys.iter().map(|key| protected(key)).collect();
    let nginx = Load::new(&nginx.address, 200, requests);
    let [nginx, rate] = rates([&nginx, valid]);
    println!(
        "  nginx with the same keys in a map {:.0}/s",
        nginx.per_second
    );
    report_ratio("the same compared with nginx", rate, "nginx", 0.9);
}

fn invalid_keys(address: &str, valid: &Load) {
    let bare = bare(address);
    let garbage = Load::new(address, 401, vec![protected("not-one-of-ours")]);
    let unknown = keys::generate(UNKNOWN);
    let unknown = unknown.iter().map(|key| protected(key)).collect();
    let unknown = Load::new(address, 401, unknown);
    let [_, garbage, unknown_rate] = rates([&bare, &garbage, &unknown]);
    report_ratio("malformed key", garbage, BARE, 0.9);
    report_ratio("well-formed unknown keys in turn", unknown_rate, BARE, 0.8);
    let [_, beside] = half_beside(valid, &unknown);
    let name = "valid keys on half of the connections, unknown keys on the others";
    report_ratio(name, beside, "valid keys on all", 0.9);
}

fn calls_of_verify(address: &str, verifier_key: &str, keys: &[String]) {
    let header = format!("x-api-key: {verifier_key}\r\n");
    let item = |key: &String| format!(r#"{{"api_key":"{key}"}}"#);
    let single = |key| post("/verify", &header, &item(key));
    let batch = |keys: &[String]| {
        let items: Vec<_> = keys.iter().map(item).collect();
        let body = format!(r#"{{"keys":[{}]}}"#, items.join(","));
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
