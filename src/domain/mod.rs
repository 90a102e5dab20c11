//! Vocabulary of the service: values and their rules, without I/O. Depends on no other module of the crate.

pub mod api_key;
pub mod boot_clock;
pub mod clock;
pub mod email;
pub mod error;
pub mod id;
pub mod json_object;
pub mod limit;
pub mod merge_patch;
pub mod network;
pub mod permission;
pub mod scope;
pub(crate) mod text;
pub mod usage;
