//! Black-box tests over HTTP, on both databases, with one file per resource.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![expect(unreachable_pub, reason = "only these tests use it")]

#[expect(dead_code, reason = "other test binaries use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod admin_command;
mod api_keys;
mod audit_log;
mod audit_log_reading;
mod authorization;
mod browsers;
mod credentials;
mod database_unreachable;
mod decisions;
mod default_rate_limit;
mod docs;
mod env_file;
mod errors;
mod forward_auth;
mod hashing;
mod key_input;
mod key_lists;
mod key_rotation;
mod key_settings;
mod key_use;
mod late_bodies;
mod limit_headers;
mod limit_headers_of_handlers;
mod limit_input;
mod limit_lineages;
mod limit_settings;
mod login_limits;
mod migrations;
mod openapi;
mod operators;
mod operators_keys;
mod operators_limits;
mod query_plans;
mod quota_persistence;
mod quotas;
mod quotas_database_unreachable;
mod rate_limit_persistence;
mod rate_limits;
mod readme_walkthrough;
mod requests;
mod roles;
mod secret_files;
mod secrets;
mod setting_values;
mod settings;
mod shutdown;
mod signup_limits;
mod slow_queries;
mod startup;
mod tokens;
mod usage;
mod usage_database_unreachable;
mod usage_retention;
mod usage_time_ranges;
mod verify;
mod verify_limits;
mod wrappers;
