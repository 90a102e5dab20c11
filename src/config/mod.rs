//! Every setting: its variable, its flag, its default, its meaning and its check, in one place.
//!
//! `latchkey --help` and the lines that a bad setting stops the start with are made from these
//! definitions.

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

use self::parse::{seconds, whole_number};
pub use self::{
    cors::{AllowedOrigins, CorsConfig},
    http::{BodyLimits, HttpConfig, TlsConfig},
    log::{LogConfig, LogFormat},
    secrets::{JwtSecret, RedisUrl},
    telemetry::{OtlpEndpoint, OtlpHeaders, TelemetryConfig, TracesSampler},
    usage::UsageConfig,
};
use crate::{
    config::database_url::DatabaseUrl,
    domain::{limit::RateLimit, network::TrustedProxies},
};

/// What `serve` needs. Each field is an environment variable and a flag of the same name.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub host: String,

    /// Port to listen on; 0 takes a free one, which the line that says the server listens names.
    #[arg(long, env = "PORT", default_value_t = 8000, value_parser = whole_number::<u16>(0..=65535))]
    pub port: u16,

    #[command(flatten)]
    pub http: HttpConfig,

    #[command(flatten)]
    pub database: DatabaseConfig,

    /// Secret that signs user tokens, at least 32 bytes. On SQLite one is made once and kept beside
    /// the database; on PostgreSQL it must be given, since instances share it.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<JwtSecret>,

    /// The secret before this one: its tokens are still accepted, none are issued with it.
    #[arg(long, env = "JWT_SECRET_PREVIOUS", hide_env_values = true)]
    pub jwt_secret_previous: Option<JwtSecret>,

    /// How long a user token lasts, in seconds, up to 30 days.
    #[arg(long, env = "JWT_TTL_SECONDS", default_value_t = 3600,
          value_parser = whole_number::<i64>(1..=30 * 24 * 3600))]
    pub jwt_ttl_seconds: i64,

    /// bcrypt's cost, 10 to 16: each step doubles the time of a login. 4 to 9 are for tests only.
    #[arg(long, env = "BCRYPT_COST", default_value_t = 12,
          value_parser = whole_number::<u32>(4..=16))]
    pub bcrypt_cost: u32,

    /// Whether anybody may sign up.
    #[arg(long, env = "SIGNUP", value_enum, default_value_t = Signup::Open)]
    pub signup: Signup,

    #[command(flatten)]
    pub cache: CacheConfig,

    #[command(flatten)]
    pub limits: LimitConfig,

    /// Proxies, as addresses or networks with commas in between, whose word on the client's address is
    /// believed: the last address in `X-Forwarded-For`, or else in `Forwarded`, that is none of
    /// theirs [default: none].
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        default_value = "",
        hide_default_value = true
    )]
    pub trusted_proxies: TrustedProxies,

    #[command(flatten)]
    pub cors: CorsConfig,

    /// Threads that answer requests [default: one per core].
    #[arg(long, env = "WORKERS", value_parser = whole_number::<u16>(1..=512))]
    pub workers: Option<u16>,

    #[command(flatten)]
    pub usage: UsageConfig,

    #[command(flatten)]
    pub telemetry: TelemetryConfig,

    #[command(flatten)]
    pub log: LogConfig,
}

/// What every command that opens the database needs.
#[derive(Debug, Clone, Args)]
pub struct DatabaseConfig {
    /// `sqlite://path` (`serve` and `migrate` make it if it is missing, with its folder) or
    /// `postgres://…`. Migrations run first.
    #[arg(
        long = "database-url",
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://data/latchkey.db"
    )]
    pub url: DatabaseUrl,

    /// ConnectionCounters to the database at the most.
    #[arg(long = "database-pool-size", env = "DATABASE_POOL_SIZE", default_value_t = 10,
          value_parser = whole_number::<u32>(1..=1000))]
    pub pool_size: u32,

    /// How long a request waits for the database, connection and answer together, in seconds, before
    /// it is told 503.
    #[arg(long = "database-timeout-seconds", env = "DATABASE_TIMEOUT_SECONDS", default_value = "5",
          value_parser = seconds(1..=60))]
    pub timeout: Duration,
}

/// What is remembered of keys.
#[derive(Debug, Clone, Copy, Args)]
pub struct CacheConfig {
    /// How long an instance answers from memory, in seconds, up to 60, when it is cut off from the
    /// database: the most that a revocation waits for it. 0 remembers nothing, and asks the database
    /// each time.
    #[arg(long = "cache-lease-seconds", env = "CACHE_LEASE_SECONDS", default_value = "2",
          value_parser = seconds(0..=60))]
    pub lease: Duration,

    /// How many keys are remembered at the most, with 512 bytes of memory for each on the average.
    #[arg(long = "cache-max-keys", env = "CACHE_MAX_KEYS", default_value_t = 1_000_000,
          value_parser = whole_number::<usize>(1..=100_000_000))]
    pub max_keys: usize,
}

/// How much keys may be used, and who counts.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitConfig {
    /// Redis 6 or newer, or Valkey, as `redis://…` or with TLS `rediss://…`: rate limits are counted
    /// there for all instances together. Without it each counts for itself [default: none].
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<RedisUrl>,

    /// The rate limit of keys that have none of their own, as LIMIT/SECONDS, such as 1000/60
    /// [default: none].
    #[arg(long, env = "DEFAULT_RATE_LIMIT")]
    pub default_rate_limit: Option<RateLimit>,

    /// How many may sign up from one client address (of IPv6, one /64), as LIMIT/SECONDS
    /// [default: as many as like].
    #[arg(long, env = "SIGNUP_RATE_LIMIT")]
    pub signup_rate_limit: Option<RateLimit>,
}

/// `SIGNUP`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Signup {
    /// Anybody who reaches the service may make an account.
    Open,
    /// Nobody may.
    Closed,
}
