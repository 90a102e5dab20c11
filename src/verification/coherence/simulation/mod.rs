//! Simulation of the coherence protocol under thousands of schedules, on a virtual clock.
//!
//! Messages are slow or lost, processes pause, crash, leave and start, and clocks run at different rates. The
//! simulation runs the code that instances run, on a simulated database and network. Each schedule is determined by its
//! seed, which a failure reports. The simulation is proven able to fail: with any one guard disabled, it finds a
//! revoked key that is accepted.

mod directed;
mod guards;
mod node;
#[path = "../../../../tests/support/repetitions.rs"]
mod repetitions;
mod wire;
mod world;

use std::{
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::{JoinHandle, LocalSet, spawn_local},
    time::{Instant, sleep},
};

use self::{
    guards::{with_disabled, with_pause},
    node::Node,
    repetitions::repetitions,
    wire::SimulatedChannel,
    world::{Shared, World, lock},
};
use super::{member::Member, run};
use crate::verification::guard::Guard;

/// Number of schedules that each of two tests runs.
const SCHEDULES: u64 = 1_000;

/// Duration of a schedule, in lease periods.
const LEASES: u32 = 7;
const NODES: usize = 3;
const KEYS: u8 = 3;

/// Result of a schedule.
struct Outcome {
    /// Number of accepted requests.
    accepted: u64,
    /// Number of revocations that responded.
    revoked: u64,
    /// Description of a revoked key that was accepted.
    violation: Option<String>,
}

/// Runs one schedule.
fn simulate(seed: u64, disabled: Option<Guard>) -> Outcome {
    let runtime = paused_runtime();
    with_disabled(disabled, || {
        LocalSet::new().block_on(&runtime, async {
            let world = Arc::new(Mutex::new(World::new(seed)));
            let machines: Vec<_> = (0..NODES)
                .map(|_| spawn_local(run_machine(world.clone())))
                .collect();
            let duration = lock(&world).parameters.lease * LEASES;
            sleep(duration).await;
            machines.iter().for_each(JoinHandle::abort);
            let world = lock(&world);
            Outcome {
                accepted: world.accepted,
                revoked: world.revocations,
                violation: world.violation.clone(),
            }
        })
    })
}

/// Runs a machine: one process after the other.
async fn run_machine(world: Shared) {
    loop {
        let node = Node::new(&world);
        let (listener, notifications) = mpsc::unbounded_channel();
        lock(&world).listeners.insert(node.id, listener);
        let process = LocalSet::new();
        let (member_node, channel_node) = (node.clone(), node.clone());
        process.spawn_local(async move {
            let channel = SimulatedChannel {
                node: channel_node,
                notifications,
            };
            let member = Member::new(&member_node.key_cache, member_node.boot, channel);
            run(member, member_node.stop.notified()).await;
        });
        process.spawn_local(serve(node.clone()));
        process.spawn_local(revoke(node.clone()));
        // All tasks of the process end with it, at whatever point they are.
        process.run_until(inject_faults(&node)).await;
        drop(process);
        lock(&world).listeners.remove(&node.id);
        let downtime = lock(&world).millis(300);
        sleep(downtime).await;
    }
}

/// Injects faults into a process until it ends.
async fn inject_faults(node: &Node) {
    loop {
        let (max_interval, duration, pauses, is_cut_off, ends, leaves) = {
            let mut world = lock(&node.world);
            let parameters = &world.parameters;
            let (paused, cut_off, ended) =
                (parameters.paused, parameters.cut_off, parameters.ended);
            (
                world.parameters.max_fault_interval_millis,
                world.leases(3),
                world.happens(paused),
                world.happens(cut_off),
                world.happens(ended),
                world.happens(50),
            )
        };
        let interval = lock(&node.world).millis(max_interval);
        sleep(interval).await;
        if pauses {
            *node.paused_until.lock().unwrap() = Instant::now() + duration;
        }
        if is_cut_off {
            let until = Instant::now() + duration;
            lock(&node.world).cut_off_until.insert(node.id, until);
        }
        match (ends, leaves) {
            (false, _) => {}
            // The process crashes.
            (true, false) => return,
            // The process leaves, and still serves requests that arrive.
            (true, true) => {
                node.stop.notify_one();
                return sleep(duration).await;
            }
        }
    }
}

async fn serve(node: Rc<Node>) {
    loop {
        let (wait, key) = {
            let mut world = lock(&node.world);
            (world.millis(16), world.any_key())
        };
        sleep(wait).await;
        let node = node.clone();
        spawn_local(async move { node.request(key).await });
    }
}

async fn revoke(node: Rc<Node>) {
    loop {
        let (wait, key) = {
            let mut world = lock(&node.world);
            (world.millis(800), world.chance.random_range(0..KEYS))
        };
        sleep(wait).await;
        lock(&node.world).restore(key);
        let valid_for = lock(&node.world).millis(300);
        sleep(valid_for).await;
        node.revoke(key).await;
    }
}

/// Runs a function in which requests pause at random between any two of their steps.
fn with_random_pauses<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    let chance = Rc::new(std::cell::RefCell::new(SmallRng::seed_from_u64(!seed)));
    let pause = move || {
        let millis = match chance.borrow_mut().random_range(0..100) {
            0..95 => 0,
            more => (more - 94) * 200,
        };
        let pause = sleep(Duration::from_millis(millis));
        Box::pin(async move {
            if millis > 0 {
                pause.await;
            }
        }) as _
    };
    with_pause(Rc::new(pause), run)
}

/// Returns the first of these schedules in which a revoked key is accepted.
fn first_violation(seeds: std::ops::Range<u64>, disabled: Option<Guard>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let outcome = with_random_pauses(seed, || simulate(seed, disabled));
        outcome.violation.map(|violation| (seed, violation))
    })
}

macro_rules! revoked_key_is_rejected_in_every_schedule {
    ($($test:ident: $part:expr,)+) => {$(
        #[test]
        fn $test() {
            let (mut accepted, mut revoked) = (0, 0);
            let schedules = repetitions(SCHEDULES, 10 * SCHEDULES);
            for seed in ($part * schedules)..($part + 1) * schedules {
                let outcome = with_random_pauses(seed, || simulate(seed, None));
                assert_eq!(outcome.violation, None, "with seed {seed}");
                accepted += outcome.accepted;
                revoked += outcome.revoked;
            }
            // Schedules in which too little happens would prove nothing.
            assert!(accepted > 50 * schedules, "{accepted}");
            assert!(revoked > 2 * schedules, "{revoked}");
        }
    )+};
}

// Two tests, so that they run in parallel.
revoked_key_is_rejected_in_every_schedule! {
    revoked_key_is_rejected_in_first_half_of_schedules: 0,
    revoked_key_is_rejected_in_second_half_of_schedules: 1,
}

macro_rules! disabled_guard_leads_to_an_accepted_revoked_key {
    ($($test:ident: $guard:ident from $seed:expr,)+) => {$(
        #[test]
        fn $test() {
            let first = repetitions($seed, 0);
            let found = first_violation(first..first + 20_000, Some(Guard::$guard));
            assert!(found.is_some(), "the guard is not necessary, or the schedules do not exercise it");
        }
    )+};
}

// Two guards are necessary in few schedules only. Their tests start near the first such seed; a full run starts at 0.
disabled_guard_leads_to_an_accepted_revoked_key! {
    revoked_key_is_accepted_if_the_lease_never_expires: LeaseExpires from 0,
    revoked_key_is_accepted_if_trust_is_checked_after_the_cache_read: CheckTrustBeforeCacheRead from 0,
    revoked_key_is_accepted_if_inserts_need_no_ticket: TicketForInsert from 0,
    revoked_key_is_accepted_if_shared_lookups_need_no_ticket: TicketForSharedLookup from 0,
    revoked_key_is_accepted_if_the_lease_counts_from_the_end_of_the_renewal: LeaseFromStartOfRenewal from 0,
    revoked_key_is_accepted_if_the_cache_is_trusted_before_catching_up: TrustAfterCatchUp from 0,
    revoked_key_is_accepted_if_changes_are_acknowledged_before_they_are_invalidated: InvalidateBeforeAck from 0,
    revoked_key_is_accepted_if_unknown_changes_do_not_clear_the_cache: InvalidateAllOnGap from 0,
    revoked_key_is_accepted_if_changes_do_not_wait_for_acknowledgements: WaitForAcks from 0,
    revoked_key_is_accepted_if_instances_are_listed_before_the_commit: ListAfterCommit from 2_500,
    revoked_key_is_accepted_if_a_repeated_change_does_not_wait: WaitOnRepeat from 0,
    revoked_key_is_accepted_if_instances_are_removed_before_their_lease_expires: RemoveDeadAfterLease from 0,
    revoked_key_is_accepted_if_a_leaving_instance_trusts_its_cache: DistrustBeforeLeaving from 4_700,
}

/// Creates a runtime with a virtual clock.
fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}
