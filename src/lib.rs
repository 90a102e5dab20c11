//! API key management: users sign up and create API keys; clients call protected APIs with these keys.
//!
//! Modules depend on each other in one direction. A module uses only modules on the lines below it:
//!
//! ```text
//! cli
//! server
//! app, metrics, openapi
//! routes
//! middleware
//! extract
//! state, schemas
//! services
//! throttle
//! verification
//! models, redis
//! db
//! auth
//! connection
//! wait_queue, shutdown, telemetry
//! config
//! domain
//! ```
//!
//! A request passes at most six modules, always downwards: `server`, `middleware`, `routes` (with `extract` and
//! `schemas`), `services` or `verification`, `models`, `db`.
//!
//! | module | contents |
//! |---|---|
//! | [`domain`] | vocabulary without I/O: scopes, limits, permissions, networks, ids, the clock, errors |
//! | [`telemetry`] | logs, traces, and the counters that metrics are read from |
//! | [`config`] | every setting: name, default, documentation and check in one place |
//! | [`wait_queue`] | a bounded wait for a scarce resource |
//! | `shutdown` | the stages of a shutdown, shared by all parts of the server |
//! | [`connection`] | state and counters of client connections, shared by `server`, `middleware` and `extract` |
//! | [`auth`] | user tokens, the token secret, password hashing |
//! | [`db`] | connections to SQLite or PostgreSQL, the pool, migrations, notifications, backup and copy |
//! | [`models`] | rows and queries, a file per table; knows nothing of HTTP |
//! | [`redis`] | the connection to Redis; no other module uses the Redis client |
//! | [`verification`] | the check of an API key: cache, coherence between instances, limits, usage counts |
//! | `throttle` | limits on failed logins and on signups |
//! | [`services`] | use cases: accounts, API keys, users, roles, audit log, usage reports, readiness |
//! | `schemas` | JSON in requests and responses, and its validation |
//! | `extract` | what a handler can take as an argument: the user, an operator, a verified key, the body, a page |
//! | [`middleware`] | wrappers of handlers: [`middleware::RequireApiKey`], request ids, access log, browser policy |
//! | `routes` | the table of URLs, and the handlers, a file per resource |
//! | [`openapi`] | the OpenAPI document |
//! | [`app`], [`state`] | the actix app, and every shared handle, built once |
//! | [`metrics`] | metrics for Prometheus, on a separate listener |
//! | [`server`] | listeners, connections and their limits, TLS, shutdown |
//! | [`cli`] | the command line: `serve`, `migrate`, `admin`, `backup`, `copy` and others, a file per command |

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod connection;
pub mod db;
pub mod domain;
mod extract;
pub mod metrics;
pub mod middleware;
pub mod models;
pub mod openapi;
pub mod redis;
mod routes;
mod schemas;
pub mod server;
pub mod services;
mod shutdown;
pub mod state;
pub mod telemetry;
mod throttle;
pub mod verification;
pub mod wait_queue;

#[cfg(test)]
mod architecture_tests;
