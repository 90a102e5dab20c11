//! Tables `key_changes` and `revision_clock`: ordered log of the changes that decisions about keys depend on.
//!
//! Both exist on PostgreSQL only. An embedded database is served by one process, which invalidates its own cache.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Binary, Nullable, Text},
};

use crate::{
    db::{
        Conn,
        schema::{key_changes, revision_clock},
    },
    domain::{api_key::KeyDigest, id::UserId},
};

/// `NOTIFY` channel of changes. The payload is the revision.
pub const CHANGES_CHANNEL: &str = "latchkey_changes";

/// Number of revisions whose changes are kept. An instance that is further behind invalidates its whole cache.
const KEPT_REVISIONS: i64 = 10_000;

/// Maximum time that a transaction may be idle while it holds the lock of the clock, in milliseconds.
const MAX_IDLE_MILLIS: u64 = 1000;

/// Row that changed and that decisions about keys depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The key with this digest.
    Key(KeyDigest),
    /// A user, and therefore all keys of that user.
    User(UserId),
}

/// Changes that a transaction makes to rows that decisions about keys depend on.
///
/// The functions that write such rows require it as a parameter and add their changes to it.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

impl Changes {
    pub(super) fn add_key(&mut self, digest: KeyDigest) {
        self.0.push(Change::Key(digest));
    }

    pub(super) fn add_user(&mut self, id: UserId) {
        self.0.push(Change::User(id));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.0.iter()
    }
}

/// State of the revision clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = revision_clock)]
pub struct Revision {
    #[diesel(column_name = revision)]
    pub number: i64,
    /// Random tag. It distinguishes this revision from one with the same number in a history that was lost.
    pub tag: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = key_changes)]
struct Row {
    revision: i64,
    tag: i64,
    digest: Option<KeyDigest>,
    user_id: Option<UserId>,
}

/// Assigns a revision to the changes of this transaction, stores them, and notifies all instances on commit.
///
/// It holds the lock of the clock until the commit, so it must be the last statement of the transaction. Returns the
/// new revision. A transaction without changes gets the current revision: what it read may depend on earlier changes.
pub fn publish(conn: &mut Conn, changes: &Changes) -> QueryResult<i64> {
    let Conn::Postgres(conn) = conn else {
        return Ok(0);
    };
    if changes.0.is_empty() {
        return revision_clock::table
            .select(revision_clock::revision)
            .first(conn);
    }
    // One statement: the lock of the clock is held from here to the commit. If the process is paused in between,
    // PostgreSQL aborts the transaction after `MAX_IDLE_MILLIS`.
    let values: Vec<_> = (0..changes.0.len())
        .map(|position| {
            let (digest, user_id) = (2 * position + 2, 2 * position + 3);
            format!("({position}::bigint, ${digest}::bytea, ${user_id}::bytea)")
        })
        .collect();
    let values = values.join(", ");
    let mut publish = diesel::sql_query(format!(
        "WITH clock AS (
             UPDATE revision_clock SET revision = revision + 1, tag = $1 RETURNING revision, tag
         ), changed AS (
             INSERT INTO key_changes (revision, position, tag, digest, user_id)
             SELECT clock.revision, position, clock.tag, digest, user_id
             FROM clock, (VALUES {values}) AS listed (position, digest, user_id)
         ), pruned AS (
             DELETE FROM key_changes WHERE revision <= (SELECT revision FROM clock) - {KEPT_REVISIONS}
         )
         SELECT revision,
             pg_notify('{CHANGES_CHANNEL}', revision::text),
             set_config('idle_in_transaction_session_timeout', '{MAX_IDLE_MILLIS}', true)
         FROM clock"
    ))
    .into_boxed()
    .bind::<BigInt, _>(rand::random::<i64>());
    for change in &changes.0 {
        let (digest, user_id) = match change {
            Change::Key(digest) => (Some(*digest), None),
            Change::User(id) => (None, Some(*id)),
        };
        publish = publish
            .bind::<Nullable<Binary>, _>(digest)
            .bind::<Nullable<Binary>, _>(user_id);
    }
    let published: Published = publish.get_result(conn)?;
    Ok(published.revision)
}

/// New state of the revision clock.
#[derive(QueryableByName)]
struct Published {
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

/// Sends a notification when the transaction commits.
pub(super) fn notify(conn: &mut PgConnection, channel: &str, payload: &str) -> QueryResult<()> {
    diesel::sql_query("SELECT pg_notify($1, $2)")
        .bind::<Text, _>(channel)
        .bind::<Text, _>(payload)
        .execute(conn)
        .map(drop)
}

/// Changes since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesSince {
    /// Current revision: the last one whose changes are included.
    pub revision: Revision,
    /// The changes. `None` if they are not all available any more, or if the start is not part of this history.
    pub changes: Option<Vec<Change>>,
}

/// Returns the current revision and the changes after `base`. Without `base` it returns the revision alone.
pub fn changes_since(conn: &mut Conn, base: Option<Revision>) -> QueryResult<ChangesSince> {
    let Conn::Postgres(conn) = conn else {
        // On an embedded database the process invalidates its own cache as part of each change.
        return Ok(ChangesSince {
            revision: Revision { number: 0, tag: 0 },
            changes: base.map(|_| Vec::new()),
        });
    };
    // One statement reads everything from the same snapshot. It includes the changes of `base` itself, whose tag
    // shows whether `base` is part of this history.
    let from = base.map_or(i64::MAX, |base| base.number);
    let rows: Vec<(Revision, Option<Row>)> = revision_clock::table
        .left_join(key_changes::table.on(key_changes::revision.ge(from)))
        .order((key_changes::revision, key_changes::position))
        .select((Revision::as_select(), Option::<Row>::as_select()))
        .load(conn)?;
    let revision = rows.first().ok_or(diesel::result::Error::NotFound)?.0;
    let rows = rows.into_iter().filter_map(|(_, row)| row);
    Ok(ChangesSince {
        revision,
        changes: base.and_then(|base| changes_between(base, revision, rows)),
    })
}

/// Returns the changes after `base` up to `revision`. `None` if some are missing, or if `base` is not part of the
/// history of `revision`.
fn changes_between(
    base: Revision,
    revision: Revision,
    rows: impl Iterator<Item = Row>,
) -> Option<Vec<Change>> {
    // Revision 0 is the initial one and has no row.
    let mut read = (base.number == 0 || base == revision).then_some(base);
    let mut changes = Vec::new();
    for row in rows {
        let at = Revision {
            number: row.revision,
            tag: row.tag,
        };
        read = match read {
            None if at == base => Some(at),
            Some(read) if at == read || at.number == read.number + 1 => Some(at),
            _ => return None,
        };
        if at.number > base.number {
            changes.extend(row.digest.map(Change::Key));
            changes.extend(row.user_id.map(Change::User));
        }
    }
    (read == Some(revision)).then_some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: [(i64, i64); 4] = [(1, 10), (2, 20), (3, 30), (4, 40)];

    fn at((number, tag): (i64, i64)) -> Revision {
        Revision { number, tag }
    }

    fn row((revision, tag): (i64, i64)) -> Row {
        Row {
            revision,
            tag,
            digest: Some(KeyDigest([revision as u8; 32])),
            user_id: None,
        }
    }

    /// Returns the number of changes after `base` in a history that ends at `end` and of which the rows `kept` exist.
    fn read(base: (i64, i64), end: (i64, i64), kept: &[(i64, i64)]) -> Option<usize> {
        let rows = kept.iter().filter(|row| row.0 >= base.0).map(|at| row(*at));
        changes_between(at(base), at(end), rows).map(|changes| changes.len())
    }

    #[test]
    fn changes_are_read_only_from_a_complete_continuation_of_the_same_history() {
        let all = &HISTORY[..];
        let end = HISTORY[3];
        for (base, expected) in [((0, 0), 4), ((1, 10), 3), ((3, 30), 1), ((4, 40), 0)] {
            assert_eq!(read(base, end, all), Some(expected), "{base:?}");
        }
        // Revisions of a history that was lost.
        for base in [(1, 11), (3, 31), (4, 41), (5, 50)] {
            assert_eq!(read(base, end, all), None, "{base:?}");
        }
        // Revisions after which some changes are no longer kept.
        for base in [(0, 0), (1, 10), (2, 20)] {
            assert_eq!(read(base, end, &HISTORY[2..]), None, "{base:?}");
        }
        assert_eq!(
            read((1, 10), end, &[HISTORY[0], HISTORY[1], HISTORY[3]]),
            None
        );
        assert_eq!(read((1, 10), end, &HISTORY[..3]), None);
        // No changes since, and none are kept.
        assert_eq!(read(end, end, &[]), Some(0));
    }
}
