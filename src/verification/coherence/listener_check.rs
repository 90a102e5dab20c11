//! Liveness check of the notification listener.
//!
//! A listener whose connection hangs or was cut looks like one without notifications. It is considered lost if it has
//! not announced a revision that was read from the database, by the second renewal after that.

/// Revisions that the listener announced, and revisions that were read from the database.
#[derive(Debug, Default)]
pub(super) struct ListenerCheck {
    /// Newest revision that the listener announced, or that existed before it started.
    announced: i64,
    /// Newest revision that was read.
    read: i64,
    /// Newest revision that had been read at the last renewal.
    due: i64,
    /// True if nothing was read since the listener started. It does not announce earlier revisions.
    is_new: bool,
}

impl ListenerCheck {
    /// Records that a new listener has started.
    pub(super) fn record_start(&mut self) {
        self.is_new = true;
        self.announced = self.read;
    }

    /// Records that the listener announced this revision. Returns whether it is still to be read.
    pub(super) fn record_announcement(&mut self, revision: i64) -> bool {
        self.announced = self.announced.max(revision);
        revision > self.read
    }

    /// Records that all changes up to this revision were read. In another history, for example after a restore,
    /// earlier announcements are meaningless.
    pub(super) fn record_read(&mut self, revision: i64, in_another_history: bool) {
        self.read = revision;
        if in_another_history {
            self.announced = revision;
            self.due = self.due.min(revision);
        }
        if self.is_new {
            self.announced = self.announced.max(revision);
            self.is_new = false;
        }
    }

    /// Returns whether the listener has failed to announce a revision for a whole renewal. Must be called once at each
    /// renewal.
    pub(super) fn is_listener_lost(&mut self) -> bool {
        let is_lost = self.announced < self.due;
        self.due = self.read;
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the listener is lost after some renewals with no other events in between.
    fn is_lost_within(check: &mut ListenerCheck, renewals: usize) -> bool {
        (0..renewals).any(|_| check.is_listener_lost())
    }

    #[test]
    fn listener_that_does_not_announce_a_revision_is_lost_after_a_whole_renewal() {
        let mut check = ListenerCheck::default();
        check.record_start();
        check.record_read(5, false);
        assert!(!is_lost_within(&mut check, 5));
        check.record_read(6, false);
        assert!(!check.is_listener_lost());
        assert!(check.is_listener_lost());
    }

    #[test]
    fn listener_that_announces_late_is_kept() {
        let mut check = ListenerCheck::default();
        check.record_start();
        check.record_read(5, false);
        for revision in 6..100 {
            // The revision is read because of another one, before its own notification is handled.
            check.record_read(revision, false);
            assert!(!check.is_listener_lost());
            assert!(!check.record_announcement(revision));
        }
    }

    #[test]
    fn new_listener_is_not_lost_because_of_revisions_before_its_start() {
        let mut check = ListenerCheck::default();
        for revision in 0..10 {
            // Without a listener, only renewals read the changes.
            check.is_listener_lost();
            check.record_read(revision, false);
        }
        check.record_start();
        check.record_read(17, false);
        assert!(!is_lost_within(&mut check, 5));
    }

    #[test]
    fn listener_is_kept_when_the_database_is_restored_to_an_earlier_revision() {
        let mut check = ListenerCheck::default();
        check.record_start();
        check.record_read(50, false);
        assert!(!is_lost_within(&mut check, 2));
        check.record_read(7, true);
        assert!(!is_lost_within(&mut check, 3));
        assert!(check.record_announcement(8));
        check.record_read(8, false);
        assert!(!is_lost_within(&mut check, 3));
        check.record_read(9, false);
        assert!(is_lost_within(&mut check, 2));
    }
}
