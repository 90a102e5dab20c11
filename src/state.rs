//! Every shared handle, built once.

use crate::{
    core::{
        clock::Clock,
        config::{Config, JwtSecret},
        security::{password_hasher::PasswordHasher, token::TokenAuthority},
    },
    db::Db,
    services::{accounts::Accounts, api_keys::ApiKeys},
    verification::engine::Engine,
};

/// What the handlers share.
pub struct State {
    pub db: Db,
    pub accounts: Accounts,
    pub api_keys: ApiKeys,
    pub engine: Engine,
}

impl State {
    pub fn new(config: &Config, jwt_secret: &JwtSecret, db: Db, clock: Clock) -> Self {
        let hasher = PasswordHasher::new(config.bcrypt_cost);
        let previous = config.jwt_secret_previous.as_ref();
        let tokens = TokenAuthority::new(jwt_secret, previous, config.jwt_ttl_seconds);
        Self {
            accounts: Accounts::new(db.clone(), clock.clone(), config.signup, hasher, tokens),
            api_keys: ApiKeys::new(db.clone(), clock),
            engine: Engine::new(db.clone()),
            db,
        }
    }
}
