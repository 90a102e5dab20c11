//! `/verify` and `/verify/batch`: what a back end learns of the limits of its clients' keys.

use std::thread;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    limit_settings::{change, quota, rate_limit},
    on_both_databases,
    quotas::{go_to_noon, next_day, next_month, with_quota},
    rate_limits::{DAY, HOUR, assert_soon_before, limited, use_key},
    support::{Client, TestServer, path_of},
    verify::{ask, verifier},
};

on_both_databases! {
    |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
    a_verifier_learns_of_the_limits_that_there_are,
    a_quota_says_when_its_period_ends,
    it_learns_of_them_with_these_answers_and_no_others,
    a_batch_tells_of_each,
    many_at_once_with_different_costs_spend_all_and_no_more,
    what_its_clients_take_is_not_its_own,
}

/// A time in RFC 3339, in UTC with `Z`.
#[track_caller]
fn time_of(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap();
    assert!(text.ends_with('Z'), "{text}");
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn a_verifier_learns_of_the_limits_that_there_are(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
    let key = ada.create_key_with(&json!({
        "rate_limit": rate_limit(24, DAY), "quota": quota(1000, "day"),
    }));
    let mut used = 0;
    for cost in [0, 1, 5, 0] {
        let answer = ask(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
        used += cost;
        assert_eq!(answer["code"], "valid");
        let limit = answer["rate_limit"].as_object().unwrap();
        let members: Vec<_> = limit.keys().collect();
        assert_eq!(members, ["limit", "remaining", "reset_seconds"]);
        assert_eq!(
            (&limit["limit"], &limit["remaining"]),
            (&json!(24), &json!(24 - used))
        );
        match limit["reset_seconds"].as_u64().unwrap() {
            0 => assert_eq!(used, 0),
            seconds => assert_soon_before(seconds, used * HOUR),
        }
        let quota = answer["quota"].as_object().unwrap();
        let members: Vec<_> = quota.keys().collect();
        assert_eq!(members, ["limit", "remaining", "resets_at"]);
        let left = (&quota["limit"], &quota["remaining"]);
        assert_eq!(left, (&json!(1000), &json!(1000 - used)));
        assert_eq!(time_of(&quota["resets_at"]), next_day(&server));
    }
    for (key, has_limit, has_quota) in [
        (limited(&ada, 1, 1), true, false),
        (with_quota(&ada, 1, "total"), false, true),
        (ada.create_key(), false, false),
    ] {
        let answer = ask(&verifier, &json!({"api_key": key["api_key"]}));
        assert_eq!(answer.get("rate_limit").is_some(), has_limit, "{answer}");
        assert_eq!(answer.get("quota").is_some(), has_quota, "{answer}");
    }
}

fn a_quota_says_when_its_period_ends(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
    let resets_at = |key: &Value| {
        let mut answers = Vec::new();
        // Let in, refused, and looked at.
        for (cost, code) in [(1, "valid"), (1, "quota_exceeded"), (0, "valid")] {
            let answer = ask(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
            assert_eq!(answer["code"], code, "{answer}");
            assert_eq!(answer["quota"]["remaining"], 0);
            answers.push(answer["quota"]["resets_at"].clone());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    };
    let day = resets_at(&with_quota(&ada, 1, "day"));
    assert_eq!(time_of(&day), next_day(&server));
    let month = resets_at(&with_quota(&ada, 1, "month"));
    assert_eq!(time_of(&month), next_month(&server));
    assert_eq!(resets_at(&with_quota(&ada, 1, "total")), Value::Null);
}

fn it_learns_of_them_with_these_answers_and_no_others(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
    let chosen = json!({
        "rate_limit": rate_limit(3, DAY), "quota": quota(3, "day"),
        "scopes": ["a"], "ip_allowlist": ["192.0.2.7"],
    });
    let key = ada.create_key_with(&chosen);
    let told = |more: Value| {
        let mut question = more;
        question["api_key"] = key["api_key"].clone();
        let answer = ask(&verifier, &question);
        let left = |limit: &str| answer.get(limit).map(|limit| limit["remaining"].clone());
        let code = answer["code"].as_str().unwrap().to_owned();
        (code, left("rate_limit"), left("quota"))
    };
    let of_both = |code: &str, rate_limit: u64, quota: u64| {
        let left = |number: u64| Some(json!(number));
        (code.to_owned(), left(rate_limit), left(quota))
    };
    let good = |cost: u64| json!({"client_ip": "192.0.2.7", "scopes": ["a"], "cost": cost});
    assert_eq!(
        told(json!({"client_ip": "192.0.2.8"})),
        of_both("ip_not_allowed", 3, 3)
    );
    let other_scope = json!({"client_ip": "192.0.2.7", "scopes": ["b"]});
    assert_eq!(
        told(other_scope.clone()),
        of_both("insufficient_scope", 3, 3)
    );
    assert_eq!(told(good(2)), of_both("valid", 1, 1));
    assert_eq!(told(good(2)), of_both("rate_limited", 1, 1));
    change(&ada, &key, &json!({"rate_limit": {"limit": 10}}));
    assert_eq!(told(good(2)), of_both("quota_exceeded", 8, 1));
    assert_eq!(told(good(1)), of_both("valid", 7, 0));
    assert_eq!(told(good(8)), of_both("rate_limited", 7, 0));
    assert_eq!(told(good(0)), of_both("valid", 7, 0));
    // What comes before is told first, whatever is left.
    assert_eq!(told(other_scope), of_both("insufficient_scope", 7, 0));
    let of_neither = |code: &str| (code.to_owned(), None, None);
    change(&ada, &key, &json!({"enabled": false}));
    assert_eq!(told(good(1)), of_neither("disabled"));
    change(&ada, &key, &json!({"enabled": true}));
    ada.delete(&path_of(&key));
    assert_eq!(told(good(0)), of_neither("revoked"));
    let answer = ask(&verifier, &json!({"api_key": "garbage"}));
    assert_eq!(answer, json!({"valid": false, "code": "not_found"}));
}

fn a_batch_tells_of_each(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
    let key = ada.create_key_with(&json!({
        "rate_limit": rate_limit(60, DAY), "quota": quota(50, "day"),
    }));
    let other = limited(&ada, 60, DAY);
    let mut questions = vec![json!({"api_key": key["api_key"]}); 70];
    questions.insert(30, json!({"api_key": other["api_key"], "cost": 7}));
    let reply = verifier.post_json("/verify/batch", &json!({"keys": questions}));
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut results = reply.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.remove(30)["rate_limit"]["remaining"], 53);
    let mut left = Vec::new();
    for answer in &results {
        if answer["code"] == "valid" {
            left.push(answer["quota"]["remaining"].as_u64().unwrap());
        } else {
            assert_eq!(answer["code"], "quota_exceeded", "{answer}");
            assert_eq!(answer["quota"]["remaining"], 0);
            // Others of the same batch may be about to be refused, and have theirs in hand.
            let remaining = answer["rate_limit"]["remaining"].as_u64();
            assert!(
                remaining.is_some_and(|left| (7..=10).contains(&left)),
                "{answer}"
            );
        }
    }
    // Each unit is taken once.
    left.sort_unstable();
    assert_eq!(left, (0..50).collect::<Vec<u64>>());
    let refused = json!({"keys": vec![json!({"api_key": key["api_key"], "cost": 11}); 3]});
    let reply = verifier.post_json("/verify/batch", &refused).json();
    for answer in reply["results"].as_array().unwrap() {
        assert_eq!(answer["code"], "rate_limited", "{answer}");
    }
}

fn many_at_once_with_different_costs_spend_all_and_no_more(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    for key in [limited(&ada, 1000, DAY), with_quota(&ada, 1000, "total")] {
        let take = |verifier: &Client, cost: u64| {
            let question = json!({"api_key": key["api_key"], "cost": cost});
            let is_valid = ask(verifier, &question)["valid"] == true;
            if is_valid { cost } else { 0 }
        };
        // Twice as much as there is.
        let taken: u64 = thread::scope(|scope| {
            let askers: Vec<_> = (0..40)
                .map(|asker| {
                    let (verifier, take) = (verifier.clone(), &take);
                    scope.spawn(move || (0..10).map(|n| take(&verifier, (asker + n) % 9 + 1)).sum())
                })
                .collect();
            askers
                .into_iter()
                .map(|a| -> u64 { a.join().unwrap() })
                .sum()
        });
        // Nobody was refused one while there was one.
        assert!((992..=1000).contains(&taken), "{taken}");
        let rest: u64 = (0..10).map(|_| take(&verifier, 1)).sum();
        assert_eq!(taken + rest, 1000);
    }
}

fn what_its_clients_take_is_not_its_own(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let chosen = json!({"scopes": ["keys:verify"], "quota": quota(5, "total")});
    let own = admin.create_key_with(&chosen);
    let verifier = server.caller(&own);
    let clients = limited(&admin, 24, DAY);
    for left in [22, 20] {
        let question = json!({"api_key": clients["api_key"], "cost": 2});
        assert_eq!(ask(&verifier, &question)["rate_limit"]["remaining"], left);
    }
    // Asked about itself, it has been used for the question when it is looked at.
    let itself = json!({"api_key": own["api_key"], "cost": 0});
    assert_eq!(ask(&verifier, &itself)["quota"]["remaining"], 2);
    let itself = json!({"api_key": own["api_key"], "cost": 1});
    assert_eq!(ask(&verifier, &itself)["quota"]["remaining"], 0);
    verifier
        .post_json("/verify", &itself)
        .assert_problem(429, "quota_exceeded");
    use_key(&server, &clients, 20);
}
