//! Runs the script in Redis at times that a test chooses.

use std::cell::RefCell;

use latchkey::domain::limit::{PREFETCH_FRACTION, RateLimit};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};
use redis::{Connection, Script};

use crate::{repetitions::repetitions, support};

const SCRIPT: &str = include_str!("../../src/redis/take.lua");
/// Text before and after the script: the test sets the time, and the key does not expire by the time of Redis.
const BEFORE: &str = "local now = tonumber(ARGV[11])
local function take()
";
const AFTER: &str = "
end
local response = take()
redis.call('PERSIST', KEYS[1])
return response
";

/// Arguments of the script, in their order.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub limit: RateLimit,
    pub minimum: u64,
    pub waiting: u64,
    pub prefetch: u64,
    /// In milliseconds.
    pub lifetime: i64,
    pub floor: u64,
    pub unreported: u64,
    pub raises: bool,
}

impl Request {
    /// Creates a request for tokens, all of them or none, without prefetching.
    pub fn exactly(tokens: u64, limit: RateLimit) -> Self {
        Self {
            limit,
            minimum: tokens,
            waiting: tokens,
            prefetch: 0,
            lifetime: lifetime_of(limit),
            floor: 0,
            unreported: 0,
            raises: false,
        }
    }
}

/// Result of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub tokens: u64,
    pub used: u64,
    /// Leaked part of the next token, in fractions whose denominator is the window in milliseconds.
    pub leaked: u64,
}

/// Returns the lifetime of prefetched tokens on an instance, in milliseconds. Redis is given a longer one.
pub fn lifetime_of(limit: RateLimit) -> i64 {
    (i64::from(limit.window_seconds()) * 1000 / 50).clamp(100, 1000)
}

/// Buckets in Redis, accessed by the script.
pub struct Buckets {
    script: Script,
    connection: RefCell<Connection>,
}

impl Buckets {
    fn empty(&self) {
        let mut connection = self.connection.borrow_mut();
        redis::cmd("FLUSHDB").exec(&mut *connection).unwrap();
    }

    pub fn take(&self, name: &str, request: Request, now: i64) -> Grant {
        let response = self
            .script
            .key(name)
            .arg(request.limit.limit())
            .arg(request.limit.window_seconds() * 1000)
            .arg(request.minimum)
            .arg(request.waiting)
            .arg(request.prefetch)
            .arg(PREFETCH_FRACTION)
            .arg(request.lifetime)
            .arg(request.floor)
            .arg(request.unreported)
            .arg(u8::from(request.raises))
            .arg(now)
            .invoke(&mut *self.connection.borrow_mut());
        let (tokens, used, leaked) = response.unwrap();
        Grant {
            tokens,
            used,
            leaked,
        }
    }
}

/// Checks a property for so many cases, ten times as many in a full run. Each case starts with empty buckets.
pub fn check<S: Strategy>(
    cases: u32,
    strategy: &S,
    property: impl Fn(&Buckets, S::Value) -> Result<(), TestCaseError>,
) {
    let Some(redis) = support::redis::empty() else {
        return;
    };
    let client = redis::Client::open(redis.url.as_str()).unwrap();
    let buckets = Buckets {
        script: Script::new(&[BEFORE, SCRIPT, AFTER].concat()),
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
    if let Err(failure) = TestRunner::new(config).run(strategy, run) {
        panic!("{failure}");
    }
}
