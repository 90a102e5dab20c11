//! Log lines of instances about Redis. An instance treats Redis as unreachable if it does not respond within 50 ms,
//! which happens on a busy machine. Tests of limits that instances share have to detect that.

use std::{thread, time::Duration};

use super::fleet::{Instance, await_that};

pub const AWAY: &str = "cannot reach Redis";
const BACK: &str = "connected to Redis again";

fn count_lines(instances: &[Instance], line: &str) -> Vec<usize> {
    let programs = instances.iter().map(|instance| &instance.program);
    programs.map(|program| program.said(line)).collect()
}

/// Waits until every instance has logged one more outage of Redis than recoveries.
#[track_caller]
pub fn await_away(instances: &[Instance]) {
    await_that("Redis is away", Duration::from_secs(10), || {
        let (away, back) = (count_lines(instances, AWAY), count_lines(instances, BACK));
        away.iter().zip(back).all(|(&away, back)| away > back)
    });
}

#[track_caller]
pub fn await_back(instances: &[Instance]) {
    await_that("Redis is back", Duration::from_secs(10), || {
        count_lines(instances, AWAY) == count_lines(instances, BACK)
    });
}

/// Asserts that `attempt` succeeds. An attempt that fails is repeated if one of the instances lost Redis meanwhile. The
/// error is a description of the wrong result.
#[track_caller]
pub fn assert_undisturbed(instances: &[Instance], mut attempt: impl FnMut() -> Result<(), String>) {
    for _ in 0..5 {
        let before = count_lines(instances, AWAY);
        let Err(wrong) = attempt() else { return };
        // Log lines arrive with a delay.
        thread::sleep(Duration::from_secs(1));
        assert_ne!(count_lines(instances, AWAY), before, "with Redis: {wrong}");
        eprintln!("repeated, because Redis was too slow: {wrong}");
        await_back(instances);
    }
    panic!("Redis is too slow here");
}

/// Returns `Ok` if both values are equal, else an error that shows them.
pub fn same<T: PartialEq + std::fmt::Debug>(actual: T, expected: T) -> Result<(), String> {
    if actual == expected {
        Ok(())
    } else {
        Err(format!("{actual:?} instead of {expected:?}"))
    }
}

/// Asserts that the output logs at least `times` outages of Redis, each once and followed by one recovery.
#[track_caller]
pub fn assert_once_each(output: &str, times: usize) {
    let lines = output.lines();
    let transitions: Vec<_> = lines
        .filter_map(|line| [AWAY, BACK].into_iter().find(|&text| line.contains(text)))
        .collect();
    let alternating = [AWAY, BACK].into_iter().cycle().take(transitions.len());
    assert!(
        transitions.iter().copied().eq(alternating),
        "{transitions:?}"
    );
    let count = transitions.len();
    assert!(count >= 2 * times && count % 2 == 0, "{transitions:?}");
}
