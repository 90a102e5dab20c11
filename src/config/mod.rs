//! Every setting: its environment variable, flag, default, documentation and check in one place.
//!
//! `latchkey --help` and the error for an invalid setting are made from these definitions.

mod cors;
pub mod database_url;
pub(crate) mod file_name;
mod http;
mod log;
mod parse;
pub(crate) mod postgres_url;
mod secrets;
mod telemetry;
mod usage;

use std::time::Duration;

use clap::{Args, ValueEnum};

pub use self::{
    cors::{AllowedOrigins, CorsConfig},
    http::{BodyLimits, HttpConfig, TlsConfig},
    log::{LogConfig, LogFormat},
    secrets::{JwtSecret, RedisUrl},
    telemetry::{OtlpEndpoint, OtlpHeaders, TelemetryConfig, TracesSampler},
    usage::UsageConfig,
};
use self::{
    database_url::DatabaseUrl,
    parse::{seconds, whole_number},
};
use crate::domain::{limit::RateLimit, network::TrustedProxies};

/// Settings of `serve`. Each field is an environment variable and a flag of the same name.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub host: String,

    /// Port to listen on. 0 selects a free port; the log line `listening on …` names it.
    #[arg(long, env = "PORT", default_value_t = 8000, value_parser = whole_number::<u16>(0..=65535))]
    pub port: u16,

    #[command(flatten)]
    pub http: HttpConfig,

    #[command(flatten)]
    pub database: DatabaseConfig,

    /// Secret that signs user tokens, at least 32 bytes long. Required with PostgreSQL, since instances
    /// share it. With SQLite it is generated once and stored beside the database.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<JwtSecret>,

    /// Previous secret. Tokens that it signed are still accepted; new tokens are not signed with it.
    #[arg(long, env = "JWT_SECRET_PREVIOUS", hide_env_values = true)]
    pub jwt_secret_previous: Option<JwtSecret>,

    /// Lifetime of a user token, in seconds, at most 30 days.
    #[arg(long, env = "JWT_TTL_SECONDS", default_value_t = 3600,
          value_parser = whole_number::<i64>(1..=30 * 24 * 3600))]
    pub jwt_ttl_seconds: i64,

    /// bcrypt cost, 10 to 16. Each step doubles the time of a login. Use 4 to 9 in tests only.
    #[arg(long, env = "BCRYPT_COST", default_value_t = 12,
          value_parser = whole_number::<u32>(4..=16))]
    pub bcrypt_cost: u32,

    /// Signup policy for new users.
    #[arg(long, env = "SIGNUP", value_enum, default_value_t = Signup::Open)]
    pub signup: Signup,

    #[command(flatten)]
    pub cache: CacheConfig,

    #[command(flatten)]
    pub limits: LimitConfig,

    /// Addresses or networks of trusted proxies, separated by commas. The client's address is the last one in
    /// `X-Forwarded-For`, or else in `Forwarded`, that is not a trusted proxy [default: none].
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        default_value = "",
        hide_default_value = true
    )]
    pub trusted_proxies: TrustedProxies,

    #[command(flatten)]
    pub cors: CorsConfig,

    /// Number of threads that handle requests [default: one per core].
    #[arg(long, env = "WORKERS", value_parser = whole_number::<u16>(1..=512))]
    pub workers: Option<u16>,

    #[command(flatten)]
    pub usage: UsageConfig,

    #[command(flatten)]
    pub telemetry: TelemetryConfig,

    #[command(flatten)]
    pub log: LogConfig,
}

/// Settings of every command that opens the database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseConfig {
    /// Database, as `sqlite://path` or `postgres://…`. `serve` and `migrate` create a missing SQLite file and its
    /// folder. Migrations run first.
    #[arg(
        long = "database-url",
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://data/latchkey.db"
    )]
    pub url: DatabaseUrl,

    /// Maximum number of connections to the database.
    #[arg(long = "database-pool-size", env = "DATABASE_POOL_SIZE", default_value_t = 10,
          value_parser = whole_number::<u32>(1..=1000))]
    pub pool_size: u32,

    /// Time that a request waits for the database (for a connection and the result together), in seconds. After
    /// that the response is 503.
    #[arg(long = "database-timeout-seconds", env = "DATABASE_TIMEOUT_SECONDS", default_value = "5",
          value_parser = seconds(1..=60))]
    pub timeout: Duration,
}

/// Settings of the cache of API keys.
#[derive(Debug, Clone, Copy, Args)]
pub struct CacheConfig {
    /// Time that an instance may answer from its cache without contact to the database, in seconds, at most 60. A
    /// revocation waits at most this long for an unreachable instance. 0 disables the cache: each check queries the
    /// database.
    #[arg(long = "cache-lease-seconds", env = "CACHE_LEASE_SECONDS", default_value = "2",
          value_parser = seconds(0..=60))]
    pub lease: Duration,

    /// Maximum number of cached keys. Each takes 512 bytes of memory on average.
    #[arg(long = "cache-max-keys", env = "CACHE_MAX_KEYS", default_value_t = 1_000_000,
          value_parser = whole_number::<usize>(1..=100_000_000))]
    pub max_keys: usize,
}

/// Settings of rate limits.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitConfig {
    /// Redis 6 or newer, or Valkey, in which all instances count rate limits together: `redis://…`, or `rediss://…`
    /// with TLS. Without it each instance counts alone [default: none].
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<RedisUrl>,

    /// Rate limit of keys without a limit of their own, as LIMIT/SECONDS, such as 1000/60 [default: none].
    #[arg(long, env = "DEFAULT_RATE_LIMIT")]
    pub default_rate_limit: Option<RateLimit>,

    /// Maximum number of signups per client address (per /64 for IPv6), as LIMIT/SECONDS, such as 10/3600
    /// [default: unlimited].
    #[arg(long, env = "SIGNUP_RATE_LIMIT")]
    pub signup_rate_limit: Option<RateLimit>,
}

/// Value of `SIGNUP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Signup {
    /// Anyone who can reach the service may create an account.
    Open,
    /// Signup is denied.
    Closed,
}
