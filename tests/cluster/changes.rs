//! What can be changed of a key such that instances which remember it must forget it, and a round of it.

use std::{
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{
    fleet::{Fleet, ask_all, text_of},
    load::{Target, Targets},
    support::{Client, path_of},
    wire::Answer,
};

/// Who makes a change, all at the same instance.
pub struct Actors {
    owner: Client,
    owner_id: String,
    admin: Client,
}

pub struct Change {
    pub name: &'static str,
    /// Whether the key's owner is somebody of their own each time.
    own_account: bool,
    make: fn(&Actors, &Value),
    /// Makes it good again.
    undo: Option<fn(&Actors, &Value)>,
    good: fn(&Answer) -> bool,
    refused: fn(&Answer) -> bool,
}

const CHANGE: Change = Change {
    name: "",
    own_account: false,
    make: |_, _| {},
    undo: None,
    good: |answer| answer.status == 200,
    refused: |answer| answer.status == 401,
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
        name: "expiring sooner",
        make: |actors, key| {
            // It must be in the future when it arrives.
            let soon = SystemTime::now() + Duration::from_secs(1);
            let at = chrono::DateTime::<chrono::Utc>::from(soon);
            patch(actors, key, &json!({"expires_at": at.to_rfc3339()}));
            thread::sleep(soon.duration_since(SystemTime::now()).unwrap_or_default());
        },
        ..CHANGE
    },
    Change {
        name: "with other scopes",
        make: |actors, key| patch(actors, key, &json!({"scopes": ["orders:write"]})),
        undo: Some(|actors, key| patch(actors, key, &json!({"scopes": ["orders:read"]}))),
        good: |answer| answer.body.contains(r#""scopes":["orders:read"]"#),
        refused: |answer| answer.body.contains(r#""scopes":["orders:write"]"#),
        ..CHANGE
    },
    Change {
        name: "for other networks",
        make: |actors, key| patch(actors, key, &json!({"ip_allowlist": ["192.0.2.0/24"]})),
        undo: Some(|actors, key| patch(actors, key, &json!({"ip_allowlist": ["127.0.0.0/8"]}))),
        refused: |answer| answer.status == 403,
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
        name: "of a deactivated account",
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

/// Rounds of changes by one worker.
pub struct Rounds<'a> {
    pub fleet: &'a Fleet,
    pub admin: &'a str,
    pub targets: &'a Arc<Targets>,
    /// The worker's place among the targets.
    pub place: usize,
}

impl Rounds<'_> {
    pub fn run(&self, change: &Change, rounds: usize) {
        for round in 0..rounds {
            self.round(change, round);
        }
    }

    /// Makes a key at one instance, uses it at all, changes it at one, and uses it at all again.
    fn round(&self, change: &Change, round: usize) {
        // Each pair of instances in turn.
        let (creator, changer) = (round, round / self.fleet.instances.len());
        let mut owner = self.fleet.ada.clone();
        if change.own_account {
            let email = format!("owner-{}-{round}@example.com", self.place);
            owner = self.fleet.sign_up(&email);
        }
        let choices = json!({
            "scopes": ["orders:read"], "ip_allowlist": ["127.0.0.0/8"], "expires_in_seconds": 3600,
        });
        let key = self.fleet.at(creator, &owner).create_key_with(&choices);
        let owner = self.fleet.at(changer, &owner);
        let actors = Actors {
            owner_id: owner.id(),
            owner,
            admin: self.fleet.at(changer, self.admin),
        };

        let mut wires = self.fleet.wires();
        let mut assert_all = |what: &str, right: fn(&Answer) -> bool| {
            let answers = ask_all(&mut wires, text_of(&key));
            for (instance, answer) in answers.iter().enumerate() {
                if !answer.as_ref().is_some_and(right) {
                    let name = change.name;
                    self.targets.complain(format!(
                        "{name}, round {round}, changed at {changer}, instance {instance}, \
                         which should {what}: {answer:?}"
                    ));
                }
            }
        };
        let target = Arc::new(Target::new(text_of(&key), change.good, change.refused));
        self.targets.set(self.place, &target);
        assert_all("accept it once it is made", change.good);
        target.promise_good();
        assert_all("accept it still", change.good);

        target.promise_nothing();
        (change.make)(&actors, &key);
        target.promise_refused();
        assert_all("refuse it", change.refused);

        if let Some(undo) = change.undo {
            target.promise_nothing();
            undo(&actors, &key);
            let target = Arc::new(Target::new(text_of(&key), change.good, change.refused));
            self.targets.set(self.place, &target);
            target.promise_good();
            assert_all("accept it again", change.good);
        }
    }
}
