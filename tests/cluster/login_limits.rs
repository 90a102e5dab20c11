//! PasswordAttempts at a password, and accounts per address, are counted for all instances together where they
//! share a Redis, and else for each.

use std::thread;

use serde_json::json;

use super::{
    fleet::{Fleet, Instance},
    redis_said::{assert_undisturbed, await_away, await_back, same},
    support::{
        PASSWORD, Program,
        redis::{self, Server},
    },
};

const ADA: &str = "ada@example.com";
/// Of any 15 minutes, for an account.
const GUESSES: usize = 10;

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

/// PasswordAttempts once at the instances round and round.
fn guess(instances: &[Instance], times: usize, email: &str) -> Vec<u16> {
    let instances = instances.iter().cycle().take(times);
    instances
        .map(|instance| log_in(&instance.program, email, "wrong"))
        .collect()
}

/// `Ok` if neither the right password nor a wrong one is looked at.
fn no_guess_is_left(instances: &[Instance], email: &str) -> Result<(), String> {
    let mut statuses = guess(instances, instances.len(), email);
    let right = |instance: &Instance| log_in(&instance.program, email, PASSWORD);
    statuses.extend(instances.iter().map(right));
    same(statuses, vec![429; 2 * instances.len()])
}

#[test]
fn the_eleventh_guess_is_refused_wherever_the_others_were_made() {
    let Some(redis) = redis::empty() else { return };
    let Some(mut fleet) = Fleet::with_redis(&redis.url) else {
        return;
    };
    let (mut emails, mut email) = ((0..).map(|n| format!("user{n}@example.com")), String::new());
    assert_undisturbed(&fleet.instances, || {
        email = emails.next().unwrap();
        fleet.instances[0].program.client().sign_up(&email);
        same(guess(&fleet.instances, GUESSES, &email), vec![401; GUESSES])?;
        no_guess_is_left(&fleet.instances, &email)
    });
    // Nor is one left for those that start, however those before ended.
    for killed in [true, false] {
        let instance = fleet.instances.remove(0);
        if !killed {
            instance.program.stop();
        }
        fleet.join(&[("REDIS_URL", &redis.url)]);
        let new = &fleet.instances[2..];
        assert_undisturbed(new, || no_guess_is_left(new, &email));
    }
}

#[test]
fn guesses_at_once_everywhere_are_no_more_than_the_limit() {
    let Some(redis) = redis::empty() else { return };
    let Some(fleet) = Fleet::with_redis(&redis.url) else {
        return;
    };
    let mut emails = (0..).map(|number| format!("user{number}@example.com"));
    assert_undisturbed(&fleet.instances, || {
        let email = &emails.next().unwrap();
        let statuses = thread::scope(|scope| {
            let guesses = (0..45).map(|number| {
                let program = &fleet.instances[number % 3].program;
                scope.spawn(move || log_in(program, email, "wrong"))
            });
            let guesses: Vec<_> = guesses.collect();
            let answers = guesses.into_iter().map(|guess| guess.join().unwrap());
            answers.collect::<Vec<_>>()
        });
        // 503 is for those who come while as many are under way as may still fail.
        let right = |status: &u16| matches!(status, 401 | 429 | 503);
        assert!(statuses.iter().all(right), "{statuses:?}");
        let tried = statuses.iter().filter(|&&status| status == 401).count();
        same(tried, GUESSES)?;
        no_guess_is_left(&fleet.instances, email)
    });
}

/// As often as each looks at a guess, until it does not any more.
fn guesses_looked_at(fleet: &Fleet, email: &str) -> Vec<usize> {
    let looked_at = fleet.instances.iter().map(|instance| {
        let is_looked_at = |_: &usize| log_in(&instance.program, email, "wrong") == 401;
        (0..=GUESSES).take_while(is_looked_at).count()
    });
    let looked_at = looked_at.collect();
    no_guess_is_left(&fleet.instances, email).unwrap();
    looked_at
}

#[test]
fn without_redis_each_instance_counts_guesses_for_itself() {
    if let Some(fleet) = Fleet::start() {
        assert_eq!(guesses_looked_at(&fleet, ADA), [GUESSES; 3]);
    }
}

#[test]
fn while_redis_is_away_each_instance_limits_guesses_by_itself() {
    let Some(mut redis) = Server::start() else {
        return;
    };
    let Some(fleet) = Fleet::with_redis(&redis.url) else {
        return;
    };
    assert_eq!(
        guess(&fleet.instances, GUESSES / 2, ADA),
        [401; GUESSES / 2]
    );
    redis.kill();
    let looked_at = guesses_looked_at(&fleet, ADA);
    eprintln!("guesses that were looked at while Redis was away: {looked_at:?}");
    let right = |looked_at: &usize| (1..=GUESSES).contains(looked_at);
    assert!(looked_at.iter().all(right), "{looked_at:?}");
    await_away(&fleet.instances);
    redis.start_again();
    await_back(&fleet.instances);
    let mut emails = (0..).map(|number| format!("user{number}@example.com"));
    assert_undisturbed(&fleet.instances, || {
        let email = emails.next().unwrap();
        same(guess(&fleet.instances, GUESSES, &email), vec![401; GUESSES])?;
        no_guess_is_left(&fleet.instances, &email)
    });
}

#[test]
fn an_address_makes_so_many_accounts_wherever_it_makes_them() {
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
        let made = thread::scope(|scope| {
            let replies = (0..30).map(|number| {
                let program = &fleet.instances[number % 3].program;
                scope.spawn(move || sign_up(program, address))
            });
            let replies: Vec<_> = replies.collect();
            let replies = replies.into_iter().map(|reply| reply.join().unwrap());
            replies.filter(|&status| status == 201).count()
        });
        same(made, 5)
    });
    drop(fleet.instances.remove(0));
    fleet.join(&settings);
    let instances = &fleet.instances;
    assert_undisturbed(instances, || {
        let sign_up = |instance: &Instance| sign_up(&instance.program, &address);
        same(instances.iter().map(sign_up).collect(), vec![429; 3])
    });
}
