//! What one use takes of a key's limits.

use std::sync::Arc;

use tokio::time::timeout;

use crate::verification::limits::{
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

/// How long who has used up what never comes back is asked to wait: somebody may raise it.
const RETRY_IF_NEVER_RESET: u64 = 24 * 3600;

/// How it stands with the limits of a key. Those that it does not have are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitStatus {
    pub rate: Option<RateStatus>,
    pub quota: Option<QuotaStatus>,
}

/// What is counted of a key's lineage.
pub(in crate::verification) struct Counters {
    pub(super) rate: Option<(RateLimit, Arc<RateCounter>)>,
    pub(super) quota: Option<(Quota, Arc<QuotaCounter>)>,
}

impl Counters {
    /// Takes units of both, all of them or none.
    pub(super) async fn charge(
        &self,
        units: u64,
    ) -> Result<(LimitStatus, Option<Rejection>), Error> {
        let rate = self.rate.as_ref();
        // The rate limit is the first that may refuse, and the last that is taken of: unlike the quota it
        // leaks, and what was taken of it cannot be put back as if nothing had been.
        let full = match &self.quota {
            Some(_) => rate.and_then(|(limit, counter)| counter.status_if_full(*limit, units)),
            None => None,
        };
        if let Some(rate) = full {
            let quota = self.look_at_quota().await;
            let rate = Some(rate);
            return Ok((LimitStatus { rate, quota }, rate.map(rate_limited)));
        }
        let spent = match &self.quota {
            None => None,
            Some((quota, counter)) => {
                let (fits, mut quota) = counter.charge(*quota, units).await?;
                if !fits {
                    let retry_after_seconds =
                        *quota.reset_seconds.get_or_insert(RETRY_IF_NEVER_RESET);
                    let status = LimitStatus {
                        rate: self.look_at_rate().await,
                        quota: Some(quota),
                    };
                    let rejection = Rejection::QuotaExceeded {
                        retry_after_seconds,
                    };
                    return Ok((status, Some(rejection)));
                }
                Some(Spent {
                    counter,
                    quota,
                    units,
                })
            }
        };
        let mut status = LimitStatus::default();
        if let Some((limit, counter)) = rate {
            let (fits, rate) = counter.charge(*limit, units).await;
            status.rate = Some(rate);
            if !fits {
                status.quota = spent.map(Spent::put_back);
                return Ok((status, Some(rate_limited(rate))));
            }
        }
        status.quota = spent.map(Spent::keep);
        Ok((status, None))
    }

    /// How it stands, as far as that is known at once.
    pub(super) async fn look(&self) -> LimitStatus {
        LimitStatus {
            rate: self.look_at_rate().await,
            quota: self.look_at_quota().await,
        }
    }

    async fn look_at_rate(&self) -> Option<RateStatus> {
        let (limit, counter) = self.rate.as_ref()?;
        Some(counter.charge(*limit, 0).await.1)
    }

    /// `None` as well if the database would have to be waited for: for a header nobody is kept waiting.
    async fn look_at_quota(&self) -> Option<QuotaStatus> {
        let (quota, counter) = self.quota.as_ref()?;
        let looked = timeout(REDIS_WAIT, counter.charge(*quota, 0)).await;
        looked.ok()?.ok().map(|(_, quota)| quota)
    }
}

/// Units of a quota that are put back unless they are used.
struct Spent<'a> {
    counter: &'a Arc<QuotaCounter>,
    quota: QuotaStatus,
    units: u64,
}

impl Spent<'_> {
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

impl Drop for Spent<'_> {
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
