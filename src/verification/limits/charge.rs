//! What one use takes of a key's limits.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    hand::RateStanding,
    quota::{QuotaCounter, QuotaStanding},
    rate::{PATIENCE, RateCounter},
};
use crate::{
    core::{
        error::Error,
        limit::{Quota, RateLimit},
    },
    verification::refusal::Refusal,
};

/// How long who has used up what never comes back is asked to wait: somebody may raise it.
const NEVER_RESETS: u64 = 24 * 3600;

/// How it stands with the limits of a key. Those that it does not have are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub rate: Option<RateStanding>,
    pub quota: Option<QuotaStanding>,
}

/// What is counted of a key's lineage.
pub(in crate::verification) struct Counters {
    pub(super) rate: Option<(RateLimit, Arc<RateCounter>)>,
    pub(super) quota: Option<(Quota, Arc<QuotaCounter>)>,
}

impl Counters {
    /// Takes units of both, all of them or none.
    pub(super) async fn charge(&self, units: u64) -> Result<(Standing, Option<Refusal>), Error> {
        let rate = self.rate.as_ref();
        // The rate limit is the first that may refuse, and the last that is taken of: unlike the quota it
        // leaks, and what was taken of it cannot be put back as if nothing had been.
        let full = match &self.quota {
            Some(_) => rate.and_then(|(limit, counter)| counter.refusal(*limit, units)),
            None => None,
        };
        if let Some(rate) = full {
            let quota = self.look_at_quota().await;
            let rate = Some(rate);
            return Ok((Standing { rate, quota }, rate.map(rate_limited)));
        }
        let spent = match &self.quota {
            None => None,
            Some((quota, counter)) => {
                let (fits, mut quota) = counter.charge(*quota, units).await?;
                if !fits {
                    let retry_after_seconds = *quota.reset_seconds.get_or_insert(NEVER_RESETS);
                    let standing = Standing {
                        rate: self.look_at_rate().await,
                        quota: Some(quota),
                    };
                    let refusal = Refusal::QuotaExceeded {
                        retry_after_seconds,
                    };
                    return Ok((standing, Some(refusal)));
                }
                Some(Spent {
                    counter,
                    quota,
                    units,
                })
            }
        };
        let mut standing = Standing::default();
        if let Some((limit, counter)) = rate {
            let (fits, rate) = counter.charge(*limit, units).await;
            standing.rate = Some(rate);
            if !fits {
                standing.quota = spent.map(Spent::put_back);
                return Ok((standing, Some(rate_limited(rate))));
            }
        }
        standing.quota = spent.map(Spent::keep);
        Ok((standing, None))
    }

    /// How it stands, as far as that is known at once.
    pub(super) async fn look(&self) -> Standing {
        Standing {
            rate: self.look_at_rate().await,
            quota: self.look_at_quota().await,
        }
    }

    async fn look_at_rate(&self) -> Option<RateStanding> {
        let (limit, counter) = self.rate.as_ref()?;
        Some(counter.charge(*limit, 0).await.1)
    }

    /// `None` as well if the database would have to be waited for: for a header nobody is kept waiting.
    async fn look_at_quota(&self) -> Option<QuotaStanding> {
        let (quota, counter) = self.quota.as_ref()?;
        let looked = timeout(PATIENCE, counter.charge(*quota, 0)).await;
        looked.ok()?.ok().map(|(_, quota)| quota)
    }
}

/// Units of a quota that are put back unless they are used.
struct Spent<'a> {
    counter: &'a Arc<QuotaCounter>,
    quota: QuotaStanding,
    units: u64,
}

impl Spent<'_> {
    fn keep(mut self) -> QuotaStanding {
        self.units = 0;
        self.quota
    }

    fn put_back(self) -> QuotaStanding {
        QuotaStanding {
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

fn rate_limited(rate: RateStanding) -> Refusal {
    Refusal::RateLimited {
        retry_after_seconds: rate.reset_seconds,
    }
}
