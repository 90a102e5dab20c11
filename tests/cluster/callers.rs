//! Many callers at once who use up what a key has, and how many of them are let through.

use super::{
    fleet::ask_all,
    wire::{Answer, Wire},
};

/// What there is for so many.
pub const LIMIT: usize = 50;
const CALLERS: usize = 200;

/// How many of 200 are admitted by each of these servers who use these keys all at once. The others have
/// to be refused with this code.
#[track_caller]
pub fn admitted(bases: &[String], keys: &[&str], code: &str) -> Vec<usize> {
    let bases = bases.iter().enumerate().cycle().take(CALLERS);
    let (servers, mut wires): (Vec<_>, Vec<_>) =
        bases.map(|(server, base)| (server, Wire::to(base))).unzip();
    // The connections are there before it counts.
    ask_all(&mut wires, "no key");
    for (wire, key) in wires.iter_mut().zip(keys.iter().cycle()) {
        wire.send(key);
    }
    let mut admitted = vec![0; servers.iter().max().map_or(0, |last| last + 1)];
    for (server, wire) in servers.into_iter().zip(&mut wires) {
        let answer = wire.receive().expect("an answer");
        admitted[server] += usize::from(is_admitted(&answer, code));
    }
    eprintln!("admitted of {CALLERS}: {admitted:?}");
    admitted
}

/// Uses a key at these servers until all of them refuse it with this code, and answers how often it was
/// admitted.
#[track_caller]
pub fn spend_rest(bases: &[String], key: &str, code: &str) -> usize {
    let mut wires: Vec<_> = bases.iter().map(|base| Wire::to(base)).collect();
    let mut admitted = 0;
    loop {
        let answers = ask_all(&mut wires, key);
        let answers = answers.iter().map(|a| a.as_ref().expect("an answer"));
        let more = answers.filter(|answer| is_admitted(answer, code)).count();
        if more == 0 {
            return admitted;
        }
        admitted += more;
    }
}

#[track_caller]
fn is_admitted(answer: &Answer, code: &str) -> bool {
    let refused = answer.status == 429 && answer.body.contains(&format!(r#""code":"{code}""#));
    assert!(refused || answer.status == 200, "{answer:?}");
    !refused
}
