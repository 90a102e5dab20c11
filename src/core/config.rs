//! Every setting: its variable, its flag, its default, its meaning and its check, in one place.
//!
//! `latchkey --help` and the lines that a bad setting stops the start with are made from these
//! definitions.

use std::{fmt, ops::RangeInclusive, time::Duration};

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{database_url::DatabaseUrl, limit::RateLimit, network::TrustedProxies};

/// The largest body that a request may have, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;

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

    /// Threads that answer requests [default: one per core].
    #[arg(long, env = "WORKERS", value_parser = whole_number::<u16>(1..=512))]
    pub workers: Option<u16>,

    /// How often it is written when keys were last used. The contract allows a minute.
    #[arg(skip = Duration::from_secs(15))]
    pub last_used_interval: Duration,

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

    /// Connections to the database at the most.
    #[arg(long = "database-pool-size", env = "DATABASE_POOL_SIZE", default_value_t = 10,
          value_parser = whole_number::<u32>(1..=1000))]
    pub pool_size: u32,

    /// How long a request waits for the database, connection and answer together, before it is
    /// told 503.
    #[arg(skip = Duration::from_secs(5))]
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

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// Which lines are logged: `error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter such as
    /// `info,latchkey=debug`.
    #[arg(id = "log", long = "log", env = "LOG", default_value = "info", value_parser = parse_log_filter)]
    pub filter: String,

    /// How a line looks.
    #[arg(id = "log_format", long = "log-format", env = "LOG_FORMAT", value_enum,
          default_value_t = LogFormat::Text)]
    pub format: LogFormat,
}

/// `SIGNUP`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Signup {
    /// Anybody who reaches the service may make an account.
    Open,
    /// Nobody may.
    Closed,
}

/// `LOG_FORMAT`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// One JSON object per line.
    Json,
}

/// A secret for signing tokens, checked for its length.
#[derive(Clone)]
pub struct JwtSecret(SecretString);

impl JwtSecret {
    /// As many bytes as HMAC-SHA256 puts out: RFC 7518 section 3.2 asks for no less.
    pub const MIN_BYTES: usize = 32;

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl std::str::FromStr for JwtSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() < Self::MIN_BYTES {
            return Err(format!(
                "is {} bytes long; give at least {} random bytes, such as the output of `openssl rand -base64 32`",
                text.len(),
                Self::MIN_BYTES
            ));
        }
        Ok(Self(text.to_owned().into()))
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret([REDACTED])")
    }
}

/// A URL that may have a password in it.
#[derive(Clone)]
pub struct RedisUrl(SecretString);

impl RedisUrl {
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::str::FromStr for RedisUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let schemes = ["redis://", "rediss://"];
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        let has_host = |rest: &str| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let address = authority.rsplit('@').next().unwrap_or_default();
            let (host, port) = match address.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, port),
                _ => (address, "6379"),
            };
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        match rest.is_some_and(has_host) {
            true => Ok(Self(text.to_owned().into())),
            false => Err(
                "must be redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, with user \
                 name and password percent-encoded",
            ),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl([REDACTED])")
    }
}

/// A parser for a number in this range.
fn whole_number<T: TryFrom<i64>>(
    range: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                let (start, end) = (range.start(), range.end());
                format!("must be a whole number from {start} to {end}")
            })
    }
}

/// A parser for a duration of so many seconds.
fn seconds(range: RangeInclusive<i64>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    let parse = whole_number::<u64>(range);
    move |text| parse(text).map(Duration::from_secs)
}

fn parse_log_filter(text: &str) -> Result<String, String> {
    // A word alone could also be a target, all of whose lines would be logged, and no other's: a
    // mistyped level would silence everything.
    let names_a_level = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    match EnvFilter::builder().parse(text) {
        Ok(_) if text.split(',').all(names_a_level) => Ok(text.to_owned()),
        _ => {
            Err("is not a log filter; give a level such as `info`, or `info,latchkey=debug`".into())
        }
    }
}
