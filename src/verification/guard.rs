//! Guards of the promise that no instance accepts a revoked key.
//!
//! Every guard is necessary: the simulation disables one at a time, and then finds a revoked key that is accepted.

/// Step, or order of steps, that exists for that promise alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// The cache is trusted only until the lease expires.
    LeaseExpires,
    /// The lease is checked before the cache is read. Checked afterwards, it could be a new lease, while the value was
    /// read under the previous one.
    CheckTrustBeforeCacheRead,
    /// A value that was looked up before an invalidation is not inserted after it.
    TicketForInsert,
    /// A request does not share a lookup that started before an invalidation.
    TicketForSharedLookup,
    /// The lease counts from before the renewal is sent, not from its completion.
    LeaseFromStartOfRenewal,
    /// A renewal reads and invalidates the changes before the cache is trusted.
    TrustAfterCatchUp,
    /// The changes are read after the renewal is committed, so when the other instances can see this one.
    CatchUpAfterRenewal,
    /// Changes are invalidated before their revision is acknowledged.
    InvalidateBeforeAck,
    /// If some changes are not available any more, the whole cache is invalidated.
    InvalidateAllOnGap,
    /// A change waits for the instances that have not acknowledged it.
    WaitForAcks,
    /// The list of instances to wait for is read after the change is committed.
    ListAfterCommit,
    /// A change waits longer than the duration of a lease, since clocks run at different rates.
    ClockDriftMargin,
    /// A repeated change waits as well, even if an earlier attempt has already made it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only a simulated database can leave it out")
    )]
    WaitOnRepeat,
    /// An instance is considered dead only after its lease has expired.
    RemoveDeadAfterLease,
    /// An instance that shuts down stops trusting its cache before it removes its row.
    DistrustBeforeLeaving,
}

/// Guards that a part of the protocol enforces. The simulation has a set from which one is missing.
pub(super) trait Guards: Send + Sync + 'static {
    /// Returns whether a guard is enforced.
    fn enforces(guard: Guard) -> bool;

    /// Pauses between two steps of a lookup, as a process may be paused anywhere.
    fn pause() -> impl Future<Output = ()>;
}

/// All guards: what runs outside simulations. The compiler removes the checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct AllGuards;

impl Guards for AllGuards {
    fn enforces(_: Guard) -> bool {
        true
    }

    async fn pause() {}
}
