//! Charges one request to a key's rate limit and quota, both or neither.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    prefetched::RateStatus,
    quota::{QuotaCounter, QuotaStatus},
    rate::{REDIS_WAIT, RateCounter},
};
use crate::{
    domain::{
        error::Error,
        limit::{Quota, RateLimit},
    },
    verification::rejection::Rejection,
};

/// `Retry-After` for an exhausted quota that never resets: its owner may raise it.
const RETRY_IF_NEVER_RESET_SECONDS: u64 = 24 * 3600;

/// Status of a key's limits; `None` for a limit that the key does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitStatus {
    pub rate: Option<RateStatus>,
    pub quota: Option<QuotaStatus>,
}

/// Counters of a key's lineage, with the limits that they enforce.
pub(in crate::verification) struct Counters {
    pub(super) rate: Option<(RateLimit, Arc<RateCounter>)>,
    pub(super) quota: Option<(Quota, Arc<QuotaCounter>)>,
}

impl Counters {
    /// Takes `cost` tokens of the rate limit and as many units of the quota, all of them or none. Returns the status
    /// afterwards, and the rejection if nothing was taken.
    pub(super) async fn charge(
        &self,
        cost: u64,
    ) -> Result<(LimitStatus, Option<Rejection>), Error> {
        let rate = self.rate.as_ref();
        // The rate limit is checked first and charged last: unlike the quota it leaks, so tokens that were taken cannot
        // be put back as if nothing had happened.
        let exhausted = match &self.quota {
            Some(_) => rate.and_then(|(limit, counter)| counter.status_if_full(*limit, cost)),
            None => None,
        };
        if let Some(rate) = exhausted {
            let quota = self.quota_status().await;
            let rate = Some(rate);
            return Ok((LimitStatus { rate, quota }, rate.map(rate_limited)));
        }
        let reserved = match &self.quota {
            None => None,
            Some((quota, counter)) => {
                let (is_allowed, mut quota) = counter.charge(*quota, cost).await?;
                if !is_allowed {
                    let retry_after_seconds = *quota
                        .reset_seconds
                        .get_or_insert(RETRY_IF_NEVER_RESET_SECONDS);
                    let status = LimitStatus {
                        rate: self.rate_status().await,
                        quota: Some(quota),
                    };
                    let rejection = Rejection::QuotaExceeded {
                        retry_after_seconds,
                    };
                    return Ok((status, Some(rejection)));
                }
                Some(ReservedUnits {
                    counter,
                    quota,
                    units: cost,
                })
            }
        };
        let mut status = LimitStatus::default();
        if let Some((limit, counter)) = rate {
            let (is_allowed, rate) = counter.charge(*limit, cost).await;
            status.rate = Some(rate);
            if !is_allowed {
                status.quota = reserved.map(ReservedUnits::put_back);
                return Ok((status, Some(rate_limited(rate))));
            }
        }
        status.quota = reserved.map(ReservedUnits::keep);
        Ok((status, None))
    }

    /// Returns the status of both limits. Waits at most [`REDIS_WAIT`] for each.
    pub(super) async fn status(&self) -> LimitStatus {
        LimitStatus {
            rate: self.rate_status().await,
            quota: self.quota_status().await,
        }
    }

    async fn rate_status(&self) -> Option<RateStatus> {
        let (limit, counter) = self.rate.as_ref()?;
        Some(counter.charge(*limit, 0).await.1)
    }

    /// Returns `None` also if the database does not respond in time: a status header must not delay the request.
    async fn quota_status(&self) -> Option<QuotaStatus> {
        let (quota, counter) = self.quota.as_ref()?;
        let result = timeout(REDIS_WAIT, counter.charge(*quota, 0)).await;
        result.ok()?.ok().map(|(_, quota)| quota)
    }
}

/// Units of a quota that are put back when dropped, unless they were kept.
struct ReservedUnits<'a> {
    counter: &'a Arc<QuotaCounter>,
    quota: QuotaStatus,
    units: u64,
}

impl ReservedUnits<'_> {
    fn keep(mut self) -> QuotaStatus {
        self.units = 0;
        self.quota
    }

    fn put_back(self) -> QuotaStatus {
        QuotaStatus {
            remaining: self.quota.remaining + self.units,
            ..self.quota
        }
    }
}

impl Drop for ReservedUnits<'_> {
    fn drop(&mut self) {
        if self.units > 0 {
            self.counter.put_back(&self.quota, self.units);
        }
    }
}

fn rate_limited(rate: RateStatus) -> Rejection {
    Rejection::RateLimited {
        retry_after_seconds: rate.reset_seconds,
    }
}
