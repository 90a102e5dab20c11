//! Attempts at passwords that fail, as instances count them together.

use std::time::Duration;

/// A subject whose failed attempts are counted, and how many it may have.
#[derive(Debug, Clone)]
pub(crate) struct Attempted {
    pub name: String,
    pub limit: usize,
}

/// What there is to say to who wants to attempt something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempts {
    Allowed,
    /// The how manieth subject has failed too often, and until when.
    Throttled {
        subject: usize,
        wait: Duration,
    },
    /// As many are under way as may still fail.
    AllUnderWay,
}

/// What is done about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Only asks whether there may be one.
    Ask,
    Begin,
    Fail,
    Forgive,
}

impl Step {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Begin => "begin",
            Self::Fail => "fail",
            Self::Forgive => "forgive",
        }
    }
}
