//! Throttling of failed logins per account and of signups per address: counted for all instances together if they share
//! Redis, otherwise per instance.

use std::thread;

use serde_json::json;

use super::{
    fleet::{Fleet, Instance},
    redis_log::{assert_undisturbed, await_away, await_back, same},
    support::{
        PASSWORD, Program,
        redis::{self, Server},
    },
};

const ADA: &str = "ada@example.com";
/// Failed logins that are allowed per account within 15 minutes.
const ALLOWED_FAILURES: usize = 10;

fn log_in(program: &Program, email: &str, password: &str) -> u16 {
    let credentials = json!({"email": email, "password": password});
    let reply = program.client().post_json("/auth/login", &credentials);
    match reply.status {
        401 => reply.assert_problem(401, "invalid_credentials"),
        429 => reply.assert_problem(429, "too_many_attempts"),
        status => return status,
    };
    reply.status
}

/// Tries a wrong password `times` times, at one instance after the other. Returns the statuses.
fn fail_logins(instances: &[Instance], times: usize, email: &str) -> Vec<u16> {
    let instances = instances.iter().cycle().take(times);
    instances
        .map(|instance| log_in(&instance.program, email, "wrong"))
        .collect()
}

/// Returns `Ok` if every instance rejects both the right password and a wrong one with 429.
fn all_logins_are_throttled(instances: &[Instance], email: &str) -> Result<(), String> {
    let mut statuses = fail_logins(instances, instances.len(), email);
    let right = |instance: &Instance| log_in(&instance.program, email, PASSWORD);
    statuses.extend(instances.iter().map(right));
    same(statuses, vec![429; 2 * instances.len()])
}

#[test]
fn eleventh_failed_login_is_throttled_by_every_instance() {
    let Some(redis) = redis::empty() else { return };
    let Some(mut fleet) = Fleet::with_redis(&redis.url) else {
        return;
    };
    let (mut emails, mut email) = ((0..).map(|n| format!("user{n}@example.com")), String::new());
    assert_undisturbed(&fleet.instances, || {
        email = emails.next().unwrap();
        fleet.instances[0].program.client().sign_up(&email);
        same(
            fail_logins(&fleet.instances, ALLOWED_FAILURES, &email),
            vec![401; ALLOWED_FAILURES],
        )?;
        all_logins_are_throttled(&fleet.instances, &email)
    });
    // New instances count these failures too, however the previous instances ended.
    for killed in [true, false] {
        let instance = fleet.instances.remove(0);
        if !killed {
            instance.program.stop();
        }
        fleet.join(&[("REDIS_URL", &redis.url)]);
        let new = &fleet.instances[2..];
        assert_undisturbed(new, || all_logins_are_throttled(new, &email));
    }
}

#[test]
fn concurrent_failed_logins_on_all_instances_do_not_exceed_the_limit() {
    let Some(redis) = redis::empty() else { return };
    let Some(fleet) = Fleet::with_redis(&redis.url) else {
        return;
    };
    let mut emails = (0..).map(|number| format!("user{number}@example.com"));
    assert_undisturbed(&fleet.instances, || {
        let email = &emails.next().unwrap();
        let statuses = thread::scope(|scope| {
            let logins = (0..45).map(|number| {
                let program = &fleet.instances[number % 3].program;
                scope.spawn(move || log_in(program, email, "wrong"))
            });
            let logins: Vec<_> = logins.collect();
            let statuses = logins.into_iter().map(|login| login.join().unwrap());
            statuses.collect::<Vec<_>>()
        });
        // 503 is the response while as many logins are in progress as may still fail.
        let right = |status: &u16| matches!(status, 401 | 429 | 503);
        assert!(statuses.iter().all(right), "{statuses:?}");
        let failed = statuses.iter().filter(|&&status| status == 401).count();
        same(failed, ALLOWED_FAILURES)?;
        all_logins_are_throttled(&fleet.instances, email)
    });
}

/// Returns how many wrong passwords each instance checks before it throttles.
fn passwords_checked(fleet: &Fleet, email: &str) -> Vec<usize> {
    let checked = fleet.instances.iter().map(|instance| {
        let is_checked = |_: &usize| log_in(&instance.program, email, "wrong") == 401;
        (0..=ALLOWED_FAILURES).take_while(is_checked).count()
    });
    let checked = checked.collect();
    all_logins_are_throttled(&fleet.instances, email).unwrap();
    checked
}

#[test]
fn failed_logins_are_counted_per_instance_without_redis() {
    if let Some(fleet) = Fleet::start() {
        assert_eq!(passwords_checked(&fleet, ADA), [ALLOWED_FAILURES; 3]);
    }
}

#[test]
fn failed_logins_are_throttled_per_instance_during_a_redis_outage() {
    let Some(mut redis) = Server::start() else {
        return;
    };
    let Some(fleet) = Fleet::with_redis(&redis.url) else {
        return;
    };
    assert_eq!(
        fail_logins(&fleet.instances, ALLOWED_FAILURES / 2, ADA),
        [401; ALLOWED_FAILURES / 2]
    );
    redis.kill();
    let checked = passwords_checked(&fleet, ADA);
    eprintln!("passwords checked while Redis was unreachable: {checked:?}");
    let right = |checked: &usize| (1..=ALLOWED_FAILURES).contains(checked);
    assert!(checked.iter().all(right), "{checked:?}");
    await_away(&fleet.instances);
    redis.start_again();
    await_back(&fleet.instances);
    let mut emails = (0..).map(|number| format!("user{number}@example.com"));
    assert_undisturbed(&fleet.instances, || {
        let email = emails.next().unwrap();
        same(
            fail_logins(&fleet.instances, ALLOWED_FAILURES, &email),
            vec![401; ALLOWED_FAILURES],
        )?;
        all_logins_are_throttled(&fleet.instances, &email)
    });
}

#[test]
fn signup_limit_of_an_address_holds_for_all_instances_together() {
    let Some(redis) = redis::empty() else { return };
    let settings = [
        ("REDIS_URL", redis.url.as_str()),
        ("SIGNUP_RATE_LIMIT", "5/86400"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let Some(mut fleet) = Fleet::start_with([&settings; 3]) else {
        return;
    };
    let sign_up = |program: &Program, address: &str| {
        let email = format!("{}@example.com", uuid::Uuid::new_v4());
        let credentials = json!({"email": email, "password": PASSWORD});
        let client = program.client().with("x-forwarded-for", address);
        let reply = client.post_json("/auth/signup", &credentials);
        if reply.status != 201 {
            reply.assert_problem(429, "too_many_attempts");
        }
        reply.status
    };
    let (mut addresses, mut address) = ((1..).map(|n| format!("192.0.2.{n}")), String::new());
    assert_undisturbed(&fleet.instances, || {
        address = addresses.next().unwrap();
        let address = &address;
        let created = thread::scope(|scope| {
            let replies = (0..30).map(|number| {
                let program = &fleet.instances[number % 3].program;
                scope.spawn(move || sign_up(program, address))
            });
            let replies: Vec<_> = replies.collect();
            let replies = replies.into_iter().map(|reply| reply.join().unwrap());
            replies.filter(|&status| status == 201).count()
        });
        same(created, 5)
    });
    drop(fleet.instances.remove(0));
    fleet.join(&settings);
    let instances = &fleet.instances;
    assert_undisturbed(instances, || {
        let sign_up = |instance: &Instance| sign_up(&instance.program, &address);
        same(instances.iter().map(sign_up).collect(), vec![429; 3])
    });
}
