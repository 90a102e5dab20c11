//! Changes of a key that make instances evict it from their caches, and rounds of such changes.

use std::{
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{
    fleet::{Fleet, full_key, use_key_on_all},
    load::{Target, Targets},
    support::{Client, path_of},
    wire::Response,
};

/// Clients that make a change, all at the same instance.
pub struct Actors {
    owner: Client,
    owner_id: String,
    admin: Client,
}

pub struct Change {
    pub name: &'static str,
    /// True if each round uses a new account as the owner of the key.
    own_account: bool,
    make: fn(&Actors, &Value),
    /// Reverts the change, so that the key is accepted again.
    undo: Option<fn(&Actors, &Value)>,
    good: fn(&Response) -> bool,
    rejected: fn(&Response) -> bool,
}

const CHANGE: Change = Change {
    name: "",
    own_account: false,
    make: |_, _| {},
    undo: None,
    good: |response| response.status == 200,
    rejected: |response| response.status == 401,
};

pub const REVOKED: Change = Change {
    name: "revoked",
    make: |actors, key| assert_done(&actors.owner.delete(&path_of(key))),
    ..CHANGE
};

pub const OTHERS: [Change; 7] = [
    Change {
        name: "revoked by an admin",
        make: |actors, key| assert_done(&actors.admin.delete(&format!("/admin{}", path_of(key)))),
        ..CHANGE
    },
    Change {
        name: "disabled",
        make: |actors, key| patch(actors, key, &json!({"enabled": false})),
        undo: Some(|actors, key| patch(actors, key, &json!({"enabled": true}))),
        ..CHANGE
    },
    Change {
        name: "earlier expiry",
        make: |actors, key| {
            // The expiry must be in the future when the request arrives.
            let soon = SystemTime::now() + Duration::from_secs(1);
            let at = chrono::DateTime::<chrono::Utc>::from(soon);
            patch(actors, key, &json!({"expires_at": at.to_rfc3339()}));
            thread::sleep(soon.duration_since(SystemTime::now()).unwrap_or_default());
        },
        ..CHANGE
    },
    Change {
        name: "other scopes",
        make: |actors, key| patch(actors, key, &json!({"scopes": ["orders:write"]})),
        undo: Some(|actors, key| patch(actors, key, &json!({"scopes": ["orders:read"]}))),
        good: |response| response.body.contains(r#""scopes":["orders:read"]"#),
        rejected: |response| response.body.contains(r#""scopes":["orders:write"]"#),
        ..CHANGE
    },
    Change {
        name: "other networks",
        make: |actors, key| patch(actors, key, &json!({"ip_allowlist": ["192.0.2.0/24"]})),
        undo: Some(|actors, key| patch(actors, key, &json!({"ip_allowlist": ["127.0.0.0/8"]}))),
        rejected: |response| response.status == 403,
        ..CHANGE
    },
    Change {
        name: "rotated",
        make: |actors, key| {
            let reply = actors.owner.post(&format!("{}/rotate", path_of(key)));
            assert_eq!(reply.status, 201, "{reply:?}");
        },
        ..CHANGE
    },
    Change {
        name: "account deactivated",
        own_account: true,
        make: |actors, _| activate(actors, false),
        undo: Some(|actors, _| activate(actors, true)),
        ..CHANGE
    },
];

#[track_caller]
fn assert_done(reply: &super::support::Reply) {
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn patch(actors: &Actors, key: &Value, change: &Value) {
    assert_done(&actors.owner.patch_json(&path_of(key), change));
}

fn activate(actors: &Actors, active: bool) {
    let change = json!({"active": active});
    assert_done(&actors.admin.change_user(&actors.owner_id, &change));
}

/// Rounds of changes made by one worker.
pub struct Rounds<'a> {
    pub fleet: &'a Fleet,
    pub admin: &'a str,
    pub targets: &'a Arc<Targets>,
    /// Slot of the worker among the targets.
    pub slot: usize,
}

impl Rounds<'_> {
    pub fn run(&self, change: &Change, rounds: usize) {
        for round in 0..rounds {
            self.round(change, round);
        }
    }

    /// Creates a key at one instance, uses it at all, changes it at one, and uses it at all again.
    fn round(&self, change: &Change, round: usize) {
        // Covers each pair of instances.
        let (creator, changer) = (round, round / self.fleet.instances.len());
        let mut owner = self.fleet.ada.clone();
        if change.own_account {
            let email = format!("owner-{}-{round}@example.com", self.slot);
            owner = self.fleet.sign_up(&email);
        }
        let settings = json!({
            "scopes": ["orders:read"], "ip_allowlist": ["127.0.0.0/8"], "expires_in_seconds": 3600,
        });
        let key = self.fleet.at(creator, &owner).create_key_with(&settings);
        let owner = self.fleet.at(changer, &owner);
        let actors = Actors {
            owner_id: owner.id(),
            owner,
            admin: self.fleet.at(changer, self.admin),
        };

        let mut wires = self.fleet.wires();
        let mut assert_all = |expectation: &str, is_right: fn(&Response) -> bool| {
            let responses = use_key_on_all(&mut wires, full_key(&key));
            for (instance, response) in responses.iter().enumerate() {
                if !response.as_ref().is_some_and(is_right) {
                    let name = change.name;
                    self.targets.add_violation(format!(
                        "{name}, round {round}, changed at {changer}, instance {instance}, \
                         which should {expectation}: {response:?}"
                    ));
                }
            }
        };
        let target = Arc::new(Target::new(full_key(&key), change.good, change.rejected));
        self.targets.set(self.slot, &target);
        assert_all("accept the new key", change.good);
        target.promise_good();
        assert_all("still accept it", change.good);

        target.promise_nothing();
        (change.make)(&actors, &key);
        target.promise_rejected();
        assert_all("reject it", change.rejected);

        if let Some(undo) = change.undo {
            target.promise_nothing();
            undo(&actors, &key);
            let target = Arc::new(Target::new(full_key(&key), change.good, change.rejected));
            self.targets.set(self.slot, &target);
            target.promise_good();
            assert_all("accept it again", change.good);
        }
    }
}
