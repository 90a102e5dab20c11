//! Data about client connections that the server, the middleware and the extractors share.

pub mod counters;
pub mod state;
