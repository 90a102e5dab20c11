//! PostgreSQL shuts down or crashes under load, and is started again later.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::{Changes, await_ready, full_key},
    load::Load,
    support::{Program, postgres, postgres::End, program::QUICK},
    wire::Response,
};

/// Default of `CACHE_LEASE_SECONDS`.
const LEASE: Duration = Duration::from_secs(2);
/// Additional time that a busy machine may take.
const SLACK: Duration = Duration::from_secs(2);

struct Seen {
    sent: Instant,
    answered: Instant,
    response: Response,
}

#[test]
fn cached_keys_are_accepted_for_one_lease_and_service_resumes_after_a_database_restart() {
    let Some(mut database) = postgres::private_server() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let url = database.url.clone();
    let settings = [&QUICK[..], &[("DATABASE_URL", &url), secret]].concat();
    let programs = [(); 2].map(|()| Program::start(folder.path(), &settings));
    let key = programs[0].client().sign_up("ada@example.com").create_key();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (recorder, text) = (seen.clone(), full_key(&key).to_owned());
    let bases = programs.each_ref().map(|program| program.base.clone());
    let load = Load::on(&bases, move |_, wire| {
        let sent = Instant::now();
        let response = wire.use_key(&text).expect("a response");
        let answered = Instant::now();
        recorder.lock().unwrap().push(Seen {
            sent,
            answered,
            response,
        });
        thread::sleep(Duration::from_millis(5));
    });
    let await_status = |since: Instant, status: u16| {
        let deadline = Instant::now() + Duration::from_secs(20);
        let matches = |seen: &Seen| seen.sent > since && seen.response.status == status;
        while !seen.lock().unwrap().iter().any(matches) {
            assert!(Instant::now() < deadline, "no {status}");
            thread::sleep(Duration::from_millis(10));
        }
    };
    for end in [End::Shutdown, End::Crash] {
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
            "{end:?}: {} created, {} revoked",
            changed.good.len(),
            changed.revoked.len()
        );
    }
    drop(load);
}

fn check(seen: &Seen, stopped: Instant, started: Instant) {
    let late = seen.sent.saturating_duration_since(stopped);
    match seen.response.status {
        200 if seen.answered < started => assert!(late < LEASE + SLACK, "accepted after {late:?}"),
        200 => {}
        503 => assert!(
            seen.response.header("retry-after").is_some(),
            "{:?}",
            seen.response
        ),
        _ => panic!("{:?}", seen.response),
    }
}
