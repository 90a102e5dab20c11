//! Many concurrent callers that use up the limit of a key, and the number of them that is allowed.

use super::{
    fleet::use_key_on_all,
    wire::{Response, Wire},
};

/// Limit of the keys that the callers use.
pub const LIMIT: usize = 50;
const CALLERS: usize = 200;

/// Sends 200 concurrent requests with these keys, spread over these servers. Returns how many each server allows. The
/// others must be rejected with this error code.
#[track_caller]
pub fn admitted(bases: &[String], keys: &[&str], code: &str) -> Vec<usize> {
    let bases = bases.iter().enumerate().cycle().take(CALLERS);
    let (servers, mut wires): (Vec<_>, Vec<_>) =
        bases.map(|(server, base)| (server, Wire::to(base))).unzip();
    // Opens the connections first.
    use_key_on_all(&mut wires, "no key");
    for (wire, key) in wires.iter_mut().zip(keys.iter().cycle()) {
        wire.send(key);
    }
    let mut admitted = vec![0; servers.iter().max().map_or(0, |last| last + 1)];
    for (server, wire) in servers.into_iter().zip(&mut wires) {
        let response = wire.receive().expect("a response");
        admitted[server] += usize::from(is_admitted(&response, code));
    }
    eprintln!("admitted of {CALLERS}: {admitted:?}");
    admitted
}

/// Uses a key at these servers until all of them reject it with this error code. Returns how often it was allowed.
#[track_caller]
pub fn spend_rest(bases: &[String], key: &str, code: &str) -> usize {
    let mut wires: Vec<_> = bases.iter().map(|base| Wire::to(base)).collect();
    let mut admitted = 0;
    loop {
        let responses = use_key_on_all(&mut wires, key);
        let responses = responses
            .iter()
            .map(|response| response.as_ref().expect("a response"));
        let more = responses
            .filter(|response| is_admitted(response, code))
            .count();
        if more == 0 {
            return admitted;
        }
        admitted += more;
    }
}

#[track_caller]
fn is_admitted(response: &Response, code: &str) -> bool {
    let rejected = response.status == 429 && response.body.contains(&format!(r#""code":"{code}""#));
    assert!(rejected || response.status == 200, "{response:?}");
    !rejected
}
