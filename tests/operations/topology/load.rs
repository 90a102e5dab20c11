//! Restarts and crashes of instances behind nginx, under load.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::Topology;
use crate::{
    keys::full_key,
    load::Load,
    support::{Client, program::run_in},
};

/// Clients of nginx, and the statuses of their responses.
struct Traffic {
    seen: Arc<Mutex<Vec<Option<u16>>>>,
    ada: Client,
    bases: Vec<String>,
    loads: Vec<Load>,
}

impl Traffic {
    /// Starts clients that use a key, and others that verify it as back ends do.
    fn through(topology: &Topology) -> Self {
        let ada = topology.nginx.client().sign_up("ada@example.com");
        let mut traffic = Self {
            seen: Arc::default(),
            ada: ada.clone(),
            bases: vec![format!("http://{}", topology.nginx.address()); 8],
            loads: Vec::new(),
        };
        let key = ada.create_key();
        let (recorder, text) = (traffic.seen.clone(), full_key(&key).to_owned());
        traffic.loads.push(Load::on(&traffic.bases, move |_, wire| {
            let status = wire.use_key(&text).map(|response| response.status);
            recorder.lock().unwrap().push(status);
            thread::sleep(Duration::from_millis(4));
        }));
        let (verifier, body) = (back_end(topology, &ada), json!({"api_key": full_key(&key)}));
        traffic.repeat(4, move || {
            let reply = verifier.post_json("/verify", &body);
            let is_good = reply.status == 200 && reply.json()["valid"] == true;
            // 422 stands for a wrong response: neither nginx nor the service sends it here.
            if is_good || reply.status != 200 {
                reply.status
            } else {
                422
            }
        });
        traffic
    }

    /// Adds clients that create keys.
    fn with_changes(mut self) -> Self {
        let person = self.ada.clone();
        self.repeat(20, move || person.post("/api-keys").status);
        self
    }

    fn repeat(&mut self, pause: u64, work: impl Fn() -> u16 + Send + Sync + 'static) {
        let recorder = self.seen.clone();
        self.loads.push(Load::on(&self.bases[..2], move |_, _| {
            let status = work();
            recorder.lock().unwrap().push(Some(status));
            thread::sleep(Duration::from_millis(pause));
        }));
    }

    fn await_more(&self, count: usize) {
        let goal = self.seen.lock().unwrap().len() + count;
        await_that("there is load", || self.seen.lock().unwrap().len() >= goal);
    }

    /// Stops the load, and asserts that every request succeeded.
    fn end(self, topology: &Topology) {
        drop(self.loads);
        let seen = self.seen.lock().unwrap();
        let is_failed = |status: &&Option<u16>| !matches!(status, Some(200 | 201));
        let failed: Vec<_> = seen.iter().filter(is_failed).collect();
        eprintln!("{} requests, {} failed", seen.len(), failed.len());
        let errors = topology.nginx.read("errors");
        assert!(failed.is_empty(), "{failed:?}\n{errors}");
    }
}

#[track_caller]
fn await_that(condition: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {condition}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Topology {
    /// Starts an instance that has ended, and waits until nginx sends it requests.
    fn start_again(&mut self, number: usize) {
        self.instances[number].start(self.folder.path());
        let before = self.passed_to(number);
        await_that("the instance gets requests again", || {
            self.passed_to(number) > before + 20
        });
    }
}

/// An upgrade replaces one instance after the other.
#[test]
fn rolling_restart_under_load_fails_no_request() {
    let Some(mut topology) = Topology::start() else {
        return;
    };
    let traffic = Traffic::through(&topology).with_changes();
    for number in [0, 1, 0, 1] {
        traffic.await_more(500);
        let program = topology.instances[number].program.take();
        let log = program.expect("a running instance").stop();
        assert!(log.contains("stopped"), "{log}");
        traffic.await_more(500);
        topology.start_again(number);
    }
    traffic.end(&topology);
}

/// A request that is not idempotent may have been executed, and is not repeated.
#[test]
fn killed_instance_fails_no_idempotent_request() {
    let Some(mut topology) = Topology::start() else {
        return;
    };
    let traffic = Traffic::through(&topology);
    for number in [0, 1] {
        traffic.await_more(500);
        let mut program = topology.instances[number]
            .program
            .take()
            .expect("a running instance");
        program.signal("KILL");
        program.wait();
        traffic.await_more(500);
        topology.start_again(number);
    }
    traffic.end(&topology);
}

/// Grants ada the role `admin`, and returns a client with a key that may verify the keys of others.
fn back_end(topology: &Topology, ada: &Client) -> Client {
    let settings = topology.instances[0].settings();
    let arguments = ["admin", "grant", "ada@example.com"];
    let granted = run_in(topology.folder.path(), &arguments, &settings);
    assert!(granted.status.success(), "{granted:?}");
    let key = ada.create_key_with(&json!({"scopes": ["keys:verify"]}));
    topology.nginx.client().with_key(full_key(&key))
}
