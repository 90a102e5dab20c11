//! Black box over HTTP, on both databases. A file per resource.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "nobody but these tests sees it")]

#[expect(dead_code, reason = "other tests use the rest")]
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
mod database_away;
mod decisions;
mod default_rate_limit;
mod docs;
mod env_file;
mod errors;
mod forward_auth;
mod hashing;
mod held_requests;
mod key_input;
mod key_lists;
mod key_rotation;
mod key_settings;
mod key_use;
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
mod quotas;
mod quotas_database_away;
mod quotas_kept;
mod rate_limits;
mod rate_limits_kept;
mod requests;
mod roles;
mod secret_files;
mod secrets;
mod setting_values;
mod settings;
mod signup_limits;
mod slow_queries;
mod starts;
mod stops;
mod tokens;
mod usage;
mod usage_database_away;
mod usage_kept;
mod usage_spans;
mod verify;
mod verify_limits;
mod walk;
mod wrappers;
