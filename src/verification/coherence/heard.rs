//! Decides whether the listener still hears of changes.
//!
//! A listener that hangs or was cut off looks like one that has nothing to say. It is recognised by a
//! revision that was read from the database, and of which it has not told by the next renewal but one.

/// The revisions of the database that were heard of, and those that were read.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The newest revision that the listener told of, or that was there before it listened.
    told: i64,
    /// The newest that was read.
    read: i64,
    /// The newest that had been read at the last renewal.
    due: i64,
    /// True if nothing was read since the listener began. It does not tell of what was there before.
    is_new: bool,
}

impl Heard {
    /// Notes that a listener has just begun to listen.
    pub(super) fn listens_anew(&mut self) {
        self.is_new = true;
        self.told = self.read;
    }

    /// Notes that the listener told of this revision. Returns whether it is still to be read.
    pub(super) fn is_news(&mut self, revision: i64) -> bool {
        self.told = self.told.max(revision);
        revision > self.read
    }

    /// Notes that everything up to this revision was read. In another history, after a restore for
    /// example, revisions that the listener told of mean nothing.
    pub(super) fn has_read(&mut self, revision: i64, in_another_history: bool) {
        self.read = revision;
        if in_another_history {
            self.told = revision;
            self.due = self.due.min(revision);
        }
        if self.is_new {
            self.told = self.told.max(revision);
            self.is_new = false;
        }
    }

    /// Called at each renewal: whether the listener has missed a revision for a whole renewal.
    pub(super) fn is_listener_lost(&mut self) -> bool {
        let is_lost = self.told < self.due;
        self.due = self.read;
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renewals that nothing happens in between.
    fn is_lost_within(heard: &mut Heard, renewals: usize) -> bool {
        (0..renewals).any(|_| heard.is_listener_lost())
    }

    #[test]
    fn listener_that_does_not_tell_of_a_revision_is_lost_after_a_whole_renewal() {
        let mut heard = Heard::default();
        heard.listens_anew();
        heard.has_read(5, false);
        assert!(!is_lost_within(&mut heard, 5));
        heard.has_read(6, false);
        assert!(!heard.is_listener_lost());
        assert!(heard.is_listener_lost());
    }

    #[test]
    fn listener_that_tells_late_is_kept() {
        let mut heard = Heard::default();
        heard.listens_anew();
        heard.has_read(5, false);
        for revision in 6..100 {
            // Read on behalf of another revision, before its own notification was taken in.
            heard.has_read(revision, false);
            assert!(!heard.is_listener_lost());
            assert!(!heard.is_news(revision));
        }
    }

    #[test]
    fn new_listener_is_not_blamed_for_what_was_there_before_it_listened() {
        let mut heard = Heard::default();
        for revision in 0..10 {
            // No listener: renewals alone read what changes.
            heard.is_listener_lost();
            heard.has_read(revision, false);
        }
        heard.listens_anew();
        heard.has_read(17, false);
        assert!(!is_lost_within(&mut heard, 5));
    }

    #[test]
    fn listener_is_kept_when_the_database_is_restored_to_an_earlier_revision() {
        let mut heard = Heard::default();
        heard.listens_anew();
        heard.has_read(50, false);
        assert!(!is_lost_within(&mut heard, 2));
        heard.has_read(7, true);
        assert!(!is_lost_within(&mut heard, 3));
        assert!(heard.is_news(8));
        heard.has_read(8, false);
        assert!(!is_lost_within(&mut heard, 3));
        heard.has_read(9, false);
        assert!(is_lost_within(&mut heard, 2));
    }
}
