//! API key management: people sign up, create API keys and call protected APIs with them.
//!
//! A request meets at most six rooms, always downwards:
//!
//! ```text
//! main -> cli -> server -> app -> routes, middleware -> extract
//!                                   -> services -> verification -> models -> db -> core
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`cli`] | the command line: `serve`, `admin`, `backup`, `copy` and others, a file each |
//! | [`server`] | bind, connections and their limits, TLS, graceful stop |
//! | [`app`], [`state`] | the actix app, and every shared handle |
//! | [`metrics`] | what Prometheus is told, on a listener of its own; asks the state, and only [`server`] knows it |
//! | `routes`, `schemas` | HTTP: the URL table, handlers, JSON in and out |
//! | [`middleware`] | wrappers: [`middleware::RequireApiKey`], the request's id, the log |
//! | `extract` | what a handler can ask for |
//! | [`services`] | what a person does |
//! | [`verification`] | what a request with an API key goes through, and how what is remembered stays true |
//! | [`models`], [`db`] | rows and queries, on SQLite or PostgreSQL |
//! | [`core`] | config, errors, security, clock; knows nobody |

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
