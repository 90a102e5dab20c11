//! Throttle for failed logins. Signups are limited in [`crate::verification::limits`].

pub(crate) mod login;
pub(crate) mod login_records;
