//! State and counters of client connections, shared by the server, the middleware and the extractors.

pub mod counters;
pub mod state;
