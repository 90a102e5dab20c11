//! Passwords and user tokens: how they are represented, hashed, issued and verified.

pub mod password;
pub mod password_hasher;
pub mod token;
pub mod token_secret;
