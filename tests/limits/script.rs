//! The script, run at moments of a test's choice.

use std::cell::RefCell;

use latchkey::domain::limit::{PREFETCH_FRACTION, RateLimit};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};
use redis::{Connection, Script};

use crate::{repetitions::repetitions, support};

const TAKE: &str = include_str!("../../src/verification/limits/take.lua");
/// What stands before it here, and after it: time is the test's, and Redis's ends nothing.
const BEFORE: &str = "local now = tonumber(ARGV[11])
local function take()
";
const AFTER: &str = "
end
local answer = take()
redis.call('PERSIST', KEYS[1])
return answer
";

/// What the script is asked for, in the order of its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    pub limit: RateLimit,
    pub minimum: u64,
    pub waiting: u64,
    pub prefetch: u64,
    /// In milliseconds.
    pub lease: i64,
    pub floor: u64,
    pub untold: u64,
    pub raises: bool,
}

impl Draw {
    /// Takes units, all of them or none, and nothing prefetch.
    pub fn exactly(units: u64, limit: RateLimit) -> Self {
        Self {
            limit,
            minimum: units,
            waiting: units,
            prefetch: 0,
            lease: lease_of(limit),
            floor: 0,
            untold: 0,
            raises: false,
        }
    }
}

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    pub taken: u64,
    pub used: u64,
    /// In parts of which a window's milliseconds make one unit.
    pub leaked: u64,
}

/// As an instance has it, in milliseconds: without what the store adds to it.
pub fn lease_of(limit: RateLimit) -> i64 {
    (i64::from(limit.window_seconds()) * 1000 / 50).clamp(100, 1000)
}

/// Buckets in Redis.
pub struct Buckets {
    script: Script,
    connection: RefCell<Connection>,
}

impl Buckets {
    fn empty(&self) {
        let mut connection = self.connection.borrow_mut();
        redis::cmd("FLUSHDB").exec(&mut *connection).unwrap();
    }

    pub fn draw(&self, name: &str, draw: Draw, now: i64) -> Drawn {
        let answer = self
            .script
            .key(name)
            .arg(draw.limit.limit())
            .arg(draw.limit.window_seconds() * 1000)
            .arg(draw.minimum)
            .arg(draw.waiting)
            .arg(draw.prefetch)
            .arg(PREFETCH_FRACTION)
            .arg(draw.lease)
            .arg(draw.floor)
            .arg(draw.untold)
            .arg(u8::from(draw.raises))
            .arg(now)
            .invoke(&mut *self.connection.borrow_mut());
        let (taken, used, leaked) = answer.unwrap();
        Drawn {
            taken,
            used,
            leaked,
        }
    }
}

/// Runs a property for so many cases, ten times as many in a full run, each with buckets that nobody has used.
pub fn check<S: Strategy>(
    cases: u32,
    any: &S,
    property: impl Fn(&Buckets, S::Value) -> Result<(), TestCaseError>,
) {
    let Some(redis) = support::redis::empty() else {
        return;
    };
    let client = redis::Client::open(redis.url.as_str()).unwrap();
    let buckets = Buckets {
        script: Script::new(&[BEFORE, TAKE, AFTER].concat()),
        connection: RefCell::new(client.get_connection().unwrap()),
    };
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(repetitions(cases, 10 * cases))
    };
    let run = |case| {
        buckets.empty();
        property(&buckets, case)
    };
    if let Err(failure) = TestRunner::new(config).run(any, run) {
        panic!("{failure}");
    }
}
