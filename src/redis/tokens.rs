//! Rate limit tokens, taken by all instances from the same bucket.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Redis, Unreachable};
use crate::domain::limit::{PREFETCH_FRACTION, RateLimit};

/// Request for tokens of one rate limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenRequest {
    pub limit: RateLimit,
    /// Smallest number of tokens that serves a waiting request. If fewer are left, none are taken.
    pub minimum: u64,
    /// Number of tokens that all waiting requests need.
    pub waiting: u64,
    /// Number of tokens to prefetch. Redis grants at most 1/16 of what is left ([`PREFETCH_FRACTION`]).
    pub prefetch: u64,
    /// Time for which prefetched tokens may be spent.
    pub lifetime: Duration,
    /// Lower bound of the bucket's contents, applied if Redis has lost the bucket.
    pub floor: u64,
    /// Applies `floor` also to an existing bucket: Redis may have lost it and counted for other instances since.
    pub raises: bool,
    /// Number of tokens that this instance spent while Redis was unreachable.
    pub unreported: u64,
}

/// Tokens that were taken, and the state of the bucket afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenGrant {
    pub tokens: u64,
    pub used: u64,
    pub leaked: u64,
}

impl Redis {
    /// Takes tokens. Returns also the number of the connection that was used ([`Redis::connection_number`]).
    pub(crate) async fn take_tokens(
        &self,
        name: &str,
        request: TokenRequest,
    ) -> Result<(TokenGrant, u64), Unreachable> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut script = self.shared.take_script.key(name);
        let window = u64::from(request.limit.window_seconds()) * 1000;
        script
            .arg(request.limit.limit())
            .arg(window)
            .arg(request.minimum)
            .arg(request.waiting)
            .arg(request.prefetch)
            .arg(PREFETCH_FRACTION)
            .arg(millis(request.lifetime))
            .arg(request.floor)
            .arg(request.unreported)
            .arg(u8::from(request.raises));
        let ((tokens, used, leaked), connection) = self.invoke(&script).await?;
        if tokens > 0 {
            self.shared.allotments.fetch_add(1, Ordering::Relaxed);
        }
        let grant = TokenGrant {
            tokens,
            used,
            leaked,
        };
        Ok((grant, connection))
    }
}
