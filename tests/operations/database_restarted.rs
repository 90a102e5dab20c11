//! PostgreSQL is stopped under load, in order or not, and started again some time later.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::{Changes, await_ready, text_of},
    load::Load,
    support::{Program, postgres, postgres::End, program::QUICK},
    wire::Answer,
};

/// `CACHE_LEASE_SECONDS` where nothing is said.
const LEASE: Duration = Duration::from_secs(2);
/// What a machine with other things to do may take.
const SLACK: Duration = Duration::from_secs(2);

struct Seen {
    sent: Instant,
    answered: Instant,
    answer: Answer,
}

#[test]
fn remembered_keys_work_for_a_lease_and_everything_comes_back_by_itself() {
    let Some(mut database) = postgres::own_server() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let url = database.url.clone();
    let settings = [&QUICK[..], &[("DATABASE_URL", &url), secret]].concat();
    let programs = [(); 2].map(|()| Program::start(folder.path(), &settings));
    let key = programs[0].client().sign_up("ada@example.com").create_key();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (noted, text) = (seen.clone(), text_of(&key).to_owned());
    let bases = programs.each_ref().map(|program| program.base.clone());
    let load = Load::on(&bases, move |_, wire| {
        let sent = Instant::now();
        let answer = wire.ask(&text).expect("an answer");
        let answered = Instant::now();
        noted.lock().unwrap().push(Seen {
            sent,
            answered,
            answer,
        });
        thread::sleep(Duration::from_millis(5));
    });
    let await_status = |since: Instant, status: u16| {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_such = |seen: &Seen| seen.sent > since && seen.answer.status == status;
        while !seen.lock().unwrap().iter().any(is_such) {
            assert!(Instant::now() < deadline, "no {status}");
            thread::sleep(Duration::from_millis(10));
        }
    };
    for end in [End::InOrder, End::AtOnce] {
        let changes = Changes::at(&programs[0].client(), 3);
        while changes.count() < 30 {
            thread::sleep(Duration::from_millis(10));
        }
        database.stop(end);
        let stopped = Instant::now();
        await_status(stopped + LEASE, 503);
        for program in &programs {
            program
                .client()
                .get("/health/ready")
                .assert_problem(503, "unavailable");
            assert_eq!(program.client().get("/health/live").status, 200);
        }
        let started = Instant::now();
        database.start_again();
        let there = Instant::now();
        await_status(there, 200);
        let acknowledged = changes.count();
        let deadline = Instant::now() + Duration::from_secs(20);
        while changes.count() < acknowledged + 10 {
            assert!(Instant::now() < deadline, "nothing can be changed any more");
            thread::sleep(Duration::from_millis(10));
        }
        for seen in std::mem::take(&mut *seen.lock().unwrap()) {
            check(&seen, stopped, started);
        }
        let changed = changes.stop();
        for program in &programs {
            changed.assert_holds(&program.client());
            await_ready(&program.client());
        }
        eprintln!(
            "{end:?}: {} made, {} revoked",
            changed.good.len(),
            changed.revoked.len()
        );
    }
    drop(load);
}

fn check(seen: &Seen, stopped: Instant, started: Instant) {
    let late = seen.sent.saturating_duration_since(stopped);
    match seen.answer.status {
        200 if seen.answered < started => assert!(late < LEASE + SLACK, "good after {late:?}"),
        200 => {}
        503 => assert!(
            seen.answer.header("retry-after").is_some(),
            "{:?}",
            seen.answer
        ),
        _ => panic!("{:?}", seen.answer),
    }
}
