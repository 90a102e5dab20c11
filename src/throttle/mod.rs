//! Throttles for failed logins and for signups.

pub(crate) mod login;
pub(crate) mod login_records;
