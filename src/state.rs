//! Shared handles of the handlers, built once at start.

use crate::{
    auth::{password_hasher::PasswordHasher, token::TokenAuthority},
    config::{AllowedOrigins, BodyLimits, Config, JwtSecret},
    db::{Claim, Db},
    domain::{clock::Clock, network::TrustedProxies},
    services::{
        accounts::Accounts, api_keys::ApiKeys, audit::Audit, readiness::Readiness, roles::Roles,
        usage::UsageReports, users::Users,
    },
    shutdown::Shutdown,
    verification::engine::{Engine, OpenError},
};

/// Handles that all handlers share.
pub struct State {
    pub db: Db,
    pub clock: Clock,
    pub accounts: Accounts,
    pub api_keys: ApiKeys,
    pub users: Users,
    pub roles: Roles,
    pub audit: Audit,
    pub usage: UsageReports,
    pub readiness: Readiness,
    pub engine: Engine,
    pub trusted_proxies: TrustedProxies,
    pub allowed_origins: AllowedOrigins,
    pub body_limits: BodyLimits,
    /// Progress of the shutdown, if one has begun.
    pub stopping: Shutdown,
}

impl State {
    pub fn new(
        config: &Config,
        jwt_secret: &JwtSecret,
        claim: Claim,
        db: Db,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let hasher = PasswordHasher::new(config.bcrypt_cost);
        let previous = config.jwt_secret_previous.as_ref();
        let tokens = TokenAuthority::new(jwt_secret, previous, config.jwt_ttl_seconds);
        let (database, cache) = (&config.database, &config.cache);
        let (limits, usage) = (&config.limits, &config.usage);
        let engine = Engine::new(
            claim,
            db.clone(),
            database,
            cache,
            limits,
            usage,
            clock.clone(),
        )?;
        let coherence = engine.coherence().clone();
        let limits = engine.limits().clone();
        let accounts = Accounts::new(
            db.clone(),
            clock.clone(),
            config.signup,
            hasher,
            tokens,
            limits,
        );
        let stopping = Shutdown::default();
        Ok(Self {
            accounts,
            api_keys: ApiKeys::new(db.clone(), coherence.clone(), clock.clone()),
            users: Users::new(db.clone(), coherence, clock.clone()),
            roles: Roles::new(db.clone(), clock.clone()),
            audit: Audit::new(db.clone()),
            usage: UsageReports::new(db.clone(), clock.clone(), usage),
            readiness: Readiness::new(db.clone(), engine.clone(), clock.clone(), stopping.clone()),
            engine,
            trusted_proxies: config.trusted_proxies.clone(),
            allowed_origins: config.cors.allowed_origins.clone(),
            body_limits: config.http.body_limits(),
            stopping,
            clock,
            db,
        })
    }
}
