//! `key_changes` and `revision_clock`: what was changed of what verdicts depend on, in its order.
//!
//! Both are PostgreSQL's alone. One process serves an embedded database, and tells itself.

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

/// Where it is told of changes, with the revision.
pub const CHANGES_CHANNEL: &str = "latchkey_changes";

/// Revisions that are kept for whoever has not read them yet. Who lacks more forgets everything.
const KEPT: i64 = 10_000;

/// How long, in milliseconds, a transaction that holds the clock may stand still.
const MAX_HELD_MILLIS: u64 = 1000;

/// Something that a verdict may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Key(KeyDigest),
    /// And so all keys of theirs.
    User(UserId),
}

/// What a transaction changes of what verdicts depend on. Only what notes itself here can be written.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

impl Changes {
    pub(super) fn note_key(&mut self, digest: KeyDigest) {
        self.0.push(Change::Key(digest));
    }

    pub(super) fn note_user(&mut self, id: UserId) {
        self.0.push(Change::User(id));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.0.iter()
    }
}

/// A state of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = revision_clock)]
pub struct Revision {
    #[diesel(column_name = revision)]
    pub number: i64,
    /// Random: tells it from another of the same number, of a history that was lost.
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

/// Gives the changes of this transaction their revision, and has everybody told when it commits. It
/// holds the clock until then, so it comes last. A transaction that changed nothing gets the revision
/// of those before it: what it found may be theirs.
pub fn publish(conn: &mut Conn, changes: &Changes) -> QueryResult<i64> {
    let Conn::Postgres(conn) = conn else {
        return Ok(0);
    };
    if changes.0.is_empty() {
        return revision_clock::table
            .select(revision_clock::revision)
            .first(conn);
    }
    // One statement: the clock is held from here to the commit, by a process that may be stopped in
    // between. Then PostgreSQL ends the transaction.
    let values: Vec<_> = (0..changes.0.len())
        .map(|place| {
            let (digest, user_id) = (2 * place + 2, 2 * place + 3);
            format!("({place}::bigint, ${digest}::bytea, ${user_id}::bytea)")
        })
        .collect();
    let values = values.join(", ");
    let mut publish = diesel::sql_query(format!(
        "WITH clock AS (
             UPDATE revision_clock SET revision = revision + 1, tag = $1 RETURNING revision, tag
         ), changed AS (
             INSERT INTO key_changes (revision, position, tag, digest, user_id)
             SELECT clock.revision, place, clock.tag, digest, user_id
             FROM clock, (VALUES {values}) AS listed (place, digest, user_id)
         ), pruned AS (
             DELETE FROM key_changes WHERE revision <= (SELECT revision FROM clock) - {KEPT}
         )
         SELECT revision,
             pg_notify('{CHANGES_CHANNEL}', revision::text),
             set_config('idle_in_transaction_session_timeout', '{MAX_HELD_MILLIS}', true)
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

/// The new state of the clock.
#[derive(QueryableByName)]
struct Published {
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

/// Has whoever listens told, when the transaction commits.
pub(super) fn notify(conn: &mut PgConnection, channel: &str, payload: &str) -> QueryResult<()> {
    diesel::sql_query("SELECT pg_notify($1, $2)")
        .bind::<Text, _>(channel)
        .bind::<Text, _>(payload)
        .execute(conn)
        .map(drop)
}

/// What has happened since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Up to here.
    pub revision: Revision,
    /// What was changed; `None` if nobody knows it any more.
    pub changes: Option<Vec<Change>>,
}

/// What has happened since this revision; `None` knows of nothing.
pub fn since(conn: &mut Conn, known: Option<Revision>) -> QueryResult<News> {
    let Conn::Postgres(conn) = conn else {
        // Who changes something on an embedded database has forgotten it before anybody asks.
        return Ok(News {
            revision: Revision { number: 0, tag: 0 },
            changes: known.map(|_| Vec::new()),
        });
    };
    // In one statement, and so as of one moment. With what is known itself, to see whether it is.
    let from = known.map_or(i64::MAX, |known| known.number);
    let rows: Vec<(Revision, Option<Row>)> = revision_clock::table
        .left_join(key_changes::table.on(key_changes::revision.ge(from)))
        .order((key_changes::revision, key_changes::position))
        .select((Revision::as_select(), Option::<Row>::as_select()))
        .load(conn)?;
    let revision = rows.first().ok_or(diesel::result::Error::NotFound)?.0;
    let rows = rows.into_iter().filter_map(|(_, row)| row);
    Ok(News {
        revision,
        changes: known.and_then(|known| continued(known, revision, rows)),
    })
}

/// The changes after `known` up to `revision`; `None` if some are missing, or `known` is not one of
/// theirs.
fn continued(
    known: Revision,
    revision: Revision,
    rows: impl Iterator<Item = Row>,
) -> Option<Vec<Change>> {
    // Of the first revision of all there is no row.
    let mut read = (known.number == 0 || known == revision).then_some(known);
    let mut changes = Vec::new();
    for row in rows {
        let at = Revision {
            number: row.revision,
            tag: row.tag,
        };
        read = match read {
            None if at == known => Some(at),
            Some(read) if at == read || at.number == read.number + 1 => Some(at),
            _ => return None,
        };
        if at.number > known.number {
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

    /// How many changes are read by who knows this, of a history that ends there and of which these
    /// rows are left.
    fn read(known: (i64, i64), end: (i64, i64), left: &[(i64, i64)]) -> Option<usize> {
        let rows = left
            .iter()
            .filter(|row| row.0 >= known.0)
            .map(|at| row(*at));
        continued(at(known), at(end), rows).map(|changes| changes.len())
    }

    #[test]
    fn what_goes_on_is_read_and_anything_else_is_not() {
        let all = &HISTORY[..];
        let end = HISTORY[3];
        for (known, expected) in [((0, 0), 4), ((1, 10), 3), ((3, 30), 1), ((4, 40), 0)] {
            assert_eq!(read(known, end, all), Some(expected), "{known:?}");
        }
        // Of a history that was lost.
        for known in [(1, 11), (3, 31), (4, 41), (5, 50)] {
            assert_eq!(read(known, end, all), None, "{known:?}");
        }
        // No longer kept.
        for known in [(0, 0), (1, 10), (2, 20)] {
            assert_eq!(read(known, end, &HISTORY[2..]), None, "{known:?}");
        }
        assert_eq!(
            read((1, 10), end, &[HISTORY[0], HISTORY[1], HISTORY[3]]),
            None
        );
        assert_eq!(read((1, 10), end, &HISTORY[..3]), None);
        // Nothing has happened since, and nothing is kept.
        assert_eq!(read(end, end, &[]), Some(0));
    }
}
