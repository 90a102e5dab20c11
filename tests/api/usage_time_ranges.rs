//! Time range and granularity of usage queries: `from`, `to` and `granularity`.

use serde_json::json;

use crate::{
    key_settings::time,
    on_both_databases,
    quotas::set_clock_to_noon,
    support::{TestServer, path_of},
    usage::usage,
};

on_both_databases! {
    |config| config.jwt_ttl_seconds = 30 * 24 * 3600;
    usage_time_range_is_as_requested,
    invalid_usage_time_range_is_rejected,
}

fn usage_time_range_is_as_requested(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    set_clock_to_noon(&server);
    for (query, first, count) in [
        (
            "?from=2020-01-01T05:00:00Z&to=2020-01-02T00:00:00Z",
            "2020-01-01T00:00:00.000000Z",
            1,
        ),
        (
            "?from=2020-01-01T05:00:00Z&to=2020-01-02T00:00:01Z",
            "2020-01-01T00:00:00.000000Z",
            2,
        ),
        (
            "?from=2020-01-01T01:00:00%2B02:00&to=2020-01-01T00:00:00Z&granularity=day",
            "2019-12-31T00:00:00.000000Z",
            1,
        ),
        (
            "?to=2020-02-01T00:00:00Z",
            "2020-01-02T00:00:00.000000Z",
            30,
        ),
        (
            "?from=2020-01-01T00:00:00Z&to=2022-09-27T00:00:00Z",
            "2020-01-01T00:00:00.000000Z",
            1000,
        ),
    ] {
        let usage = usage(&ada, &key, query);
        assert_eq!(usage["total"], 0);
        assert_eq!(usage["by_outcome"], json!({}));
        let buckets = usage["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), count, "{query}");
        assert_eq!(buckets[0]["start"], first, "{query}");
    }
    let later = time(&server, 3 * 3600);
    let query = format!("?granularity=hour&to={later}");
    let hours = usage(&ada, &key, &query);
    assert_eq!(hours["buckets"].as_array().unwrap().len(), 24);
}

fn invalid_usage_time_range_is_rejected(server: TestServer) {
    let ada = server.admin("ada@example.com");
    let key = ada.create_key();
    for (query, pointer) in [
        ("granularity=minute", "?granularity"),
        ("granularity=", "?granularity"),
        ("from=yesterday", "?from"),
        ("to=2020-01-01", "?to"),
        ("from=2020-01-02T00:00:00Z&to=2020-01-02T00:00:00Z", "?from"),
        ("from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z", "?from"),
        ("from=2999-01-02T00:00:00Z", "?from"),
        ("from=2020-01-01T00:00:00Z&to=2022-09-28T00:00:00Z", "?from"),
        ("from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z", "?from"),
        (
            "from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z&granularity=hour",
            "?from",
        ),
        ("from=1969-12-31T00:00:00Z&to=1970-01-02T00:00:00Z", "?from"),
        ("to=1970-01-02T00:00:00Z", "?to"),
        ("to=0000-01-01T00:00:00Z", "?to"),
        ("to=2020-01-02T00:00:00Z&granularity=hour", "?to"),
        ("limit=10", "?limit"),
        (
            "from=2020-01-01T00:00:00Z&from=2020-01-01T00:00:00Z",
            "?from",
        ),
    ] {
        for path in [
            format!("{}/usage", path_of(&key)),
            "/admin/usage".to_owned(),
        ] {
            let problem = ada
                .get(&format!("{path}?{query}"))
                .assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}");
        }
    }
    ada.get("/admin/usage?user_id=me")
        .assert_problem(422, "validation_failed");
    ada.get(&format!("{}/usage?user_id={}", path_of(&key), ada.id()))
        .assert_problem(422, "validation_failed");
}
