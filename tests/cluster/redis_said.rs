//! What instances say of Redis. One that does not answer within 50 ms is away, and that is soon over on a
//! machine with other things to do: a test of what instances do together has to know.

use std::{thread, time::Duration};

use super::fleet::{Instance, await_that};

pub const AWAY: &str = "cannot reach Redis";
const BACK: &str = "Redis is back";

fn said(instances: &[Instance], line: &str) -> Vec<usize> {
    let programs = instances.iter().map(|instance| &instance.program);
    programs.map(|program| program.said(line)).collect()
}

/// Waits until every instance has said that it is away, more often than that it is back.
#[track_caller]
pub fn await_away(instances: &[Instance]) {
    await_that("Redis is away", Duration::from_secs(10), || {
        let (away, back) = (said(instances, AWAY), said(instances, BACK));
        away.iter().zip(back).all(|(&away, back)| away > back)
    });
}

#[track_caller]
pub fn await_back(instances: &[Instance]) {
    await_that("Redis is back", Duration::from_secs(10), || {
        said(instances, AWAY) == said(instances, BACK)
    });
}

/// Asserts that something comes out right, if not at once then when none of these goes without Redis
/// meanwhile. An error says what is wrong.
#[track_caller]
pub fn assert_undisturbed(
    instances: &[Instance],
    mut something: impl FnMut() -> Result<(), String>,
) {
    for _ in 0..5 {
        let before = said(instances, AWAY);
        let Err(wrong) = something() else { return };
        // What is said is heard a moment later.
        thread::sleep(Duration::from_secs(1));
        assert_ne!(said(instances, AWAY), before, "with Redis: {wrong}");
        eprintln!("once more, since Redis was too slow: {wrong}");
        await_back(instances);
    }
    panic!("Redis is too slow here");
}

/// `Ok` if they are the same.
pub fn same<T: PartialEq + std::fmt::Debug>(got: T, right: T) -> Result<(), String> {
    match got == right {
        true => Ok(()),
        false => Err(format!("{got:?} instead of {right:?}")),
    }
}

/// Asserts that so many times at the least it said once that Redis was away, and then once that it was
/// back.
#[track_caller]
pub fn assert_once_each(output: &str, times: usize) {
    let lines = output.lines();
    let said: Vec<_> = lines
        .filter_map(|line| [AWAY, BACK].into_iter().find(|&said| line.contains(said)))
        .collect();
    let in_turn = [AWAY, BACK].into_iter().cycle().take(said.len());
    assert!(said.iter().copied().eq(in_turn), "{said:?}");
    assert!(said.len() >= 2 * times && said.len() % 2 == 0, "{said:?}");
}
