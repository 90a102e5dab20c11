//! Everything that a database holds, into another one that holds nothing: from SQLite to PostgreSQL, or back.
//!
//! It is read in one transaction, which sees the database of one moment, and written in one: whatever fails,
//! the target stays empty. Before that is committed, what was written is read back and compared.

mod batch;
mod references;
mod rows;
mod served;
mod summary;
pub mod tables;

use std::path::PathBuf;

use diesel::{
    QueryResult, QueryableByName, RunQueryDsl as _,
    connection::{AnsiTransactionManager, SimpleConnection as _},
    result::Error as QueryError,
    sql_query,
    sql_types::Text,
};

pub use self::summary::Summary;
use self::{
    batch::Batch,
    references::References,
    served::refuse_served,
    summary::Summing,
    tables::{Kind, Table, count_where, quoted},
};
use super::{
    Aborted, Claim, ClaimError, Conn, ConnectError,
    manager::Manager,
    migrations::{self, MigrateError},
};
use crate::{config::database_url::DatabaseUrl, domain::error::Error};

/// Tables that hold nothing of what people did: how instances that run agree with one another, and which
/// migrations have run. The target has its own.
pub const LEFT_OUT: [&str; 5] = [
    "__diesel_schema_migrations",
    "instances",
    "key_changes",
    "revision_clock",
    "usage_writers",
];

/// Tables that migrations put rows into, and what is true of these. A database with others is not empty.
const SEEDED: [(&str, &str); 2] = [("roles", "built_in"), ("usage_rollup", "TRUE")];

/// How long it is waited for others to let go of the target's tables.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("there is no database {}", .0.display())]
    NoDatabase(PathBuf),
    #[error("{0}")]
    Claim(#[from] ClaimError),
    #[error("{side}: {reason}")]
    Connect {
        side: &'static str,
        reason: ConnectError,
    },
    #[error("the target: {0}")]
    Migrate(#[from] MigrateError),
    #[error("nothing was copied: {0}")]
    Refused(String),
}

/// A table that was copied.
pub struct Copied {
    pub table: String,
    pub summary: Summary,
}

/// Copies everything. Neither database may be served meanwhile.
pub fn run(from: &DatabaseUrl, to: &DatabaseUrl) -> Result<Vec<Copied>, CopyError> {
    if let Some(path) = from.sqlite_path().filter(|path| !path.exists()) {
        return Err(CopyError::NoDatabase(path.to_owned()));
    }
    // Until the end nobody else serves either of them.
    let _claims = (Claim::take(from)?, Claim::take(to)?);
    let layout = Layout::of_this_version()?;
    let mut source = open(from, "the source", Manager::open)?;
    refuse_served(&mut source, "source").map_err(refused)?;
    begin_reading(&mut source, &layout).map_err(refused)?;
    {
        let mut target = open(to, "the target", |manager| {
            manager.open_or_create().map(|(conn, _)| conn)
        })?;
        refuse_served(&mut target, "target").map_err(refused)?;
    }
    migrations::run(to)?;
    let mut target = open(to, "the target", Manager::open)?;
    target
        .write(|target| fill(&mut source, &layout, target))
        .map_err(refused)
}

/// What a database of this version has: other tables beside these are somebody else's.
struct Layout {
    migrations: Vec<String>,
    tables: Vec<Table>,
}

impl Layout {
    fn of_this_version() -> Result<Self, CopyError> {
        let mut fresh = migrations::fresh()?;
        let failed = |error: QueryError| CopyError::Refused(error.to_string());
        let migrations = applied(&mut fresh).map_err(failed)?;
        let tables = tables::all(&mut fresh).map_err(failed)?.into_iter();
        let tables = tables.filter(|table| !LEFT_OUT.contains(&table.name.as_str()));
        Ok(Self {
            migrations,
            tables: tables.collect(),
        })
    }

    /// That both databases have the same columns.
    fn refuse_unless_fits(&self, conn: &mut Conn, side: &str) -> Result<(), Aborted> {
        let there = tables::all(conn)?;
        let is_known = |table: &Table| {
            let mut kinds = table.columns.iter().map(|column| &column.kind);
            !table.key.is_empty() && !kinds.any(|kind| matches!(kind, Kind::Other(_)))
        };
        let fits = |table: &&Table| there.contains(table) && is_known(table);
        match self.tables.iter().find(|table| !fits(table)) {
            None => Ok(()),
            Some(table) => {
                let name = &table.name;
                Err(refuse(format!(
                    "the {side}'s {name} is not what it should be"
                )))
            }
        }
    }
}

fn open(
    url: &DatabaseUrl,
    side: &'static str,
    open: impl FnOnce(&Manager) -> Result<Conn, ConnectError>,
) -> Result<Conn, CopyError> {
    let opened = open(&Manager::new(url.clone(), None));
    opened.map_err(|reason| CopyError::Connect { side, reason })
}

fn refused(aborted: Aborted) -> CopyError {
    CopyError::Refused(match aborted {
        Aborted::Query(error) => error.to_string(),
        Aborted::Refused(Error::Conflict(why)) => why.into_owned(),
        Aborted::Refused(error) => error.to_string(),
    })
}

fn refuse(why: impl Into<String>) -> Aborted {
    Error::Conflict(why.into().into()).into()
}

/// Begins a transaction to whose end nothing changes that is read.
fn begin_reading(source: &mut Conn, layout: &Layout) -> Result<(), Aborted> {
    match source {
        Conn::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN")?,
        Conn::Postgres(conn) => AnsiTransactionManager::begin_transaction_sql(
            conn,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )?,
    }
    let all = tables::all(source)?;
    if !all.iter().any(|table| table.name == LEFT_OUT[0]) {
        return Err(refuse("the source is not a database of latchkey"));
    }
    if applied(source)? != layout.migrations {
        return Err(refuse(
            "the source is of another version; bring it up to date with `latchkey migrate`, this one's, \
             and DATABASE_URL set to it",
        ));
    }
    layout.refuse_unless_fits(source, "source")
}

/// The migrations that have run.
fn applied(conn: &mut Conn) -> QueryResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Migration {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let query = sql_query("SELECT version FROM __diesel_schema_migrations ORDER BY version");
    let applied: Vec<Migration> = match conn {
        Conn::Sqlite(conn) => query.load(conn)?,
        Conn::Postgres(conn) => query.load(conn)?,
    };
    Ok(applied.into_iter().map(|one| one.version).collect())
}

/// Writes all that the source has, inside a transaction on the target.
fn fill(source: &mut Conn, layout: &Layout, target: &mut Conn) -> Result<Vec<Copied>, Aborted> {
    layout.refuse_unless_fits(target, "target")?;
    let tables = &layout.tables;
    keep_others_out(target, tables)?;
    refuse_unless_empty(target, tables)?;
    let references = References::defer(target, tables)?;
    let mut written = Vec::with_capacity(tables.len());
    for table in tables {
        written.push(copy(source, table, target)?);
    }
    references.check(target)?;
    let read_back = |(table, summary): (&Table, Summary)| {
        let name = table.name.clone();
        if summary::of(target, table)? != summary {
            return Err(refuse(format!("{name} came out different, read back")));
        }
        Ok(Copied {
            table: name,
            summary,
        })
    };
    tables.iter().zip(written).map(read_back).collect()
}

fn keep_others_out(target: &mut Conn, tables: &[Table]) -> QueryResult<()> {
    let Conn::Postgres(conn) = target else {
        // There is one writer.
        return Ok(());
    };
    let names: Vec<_> = tables.iter().map(|table| quoted(&table.name)).collect();
    let names = names.join(", ");
    conn.batch_execute(&format!(
        "{LOCK_TIMEOUT}; LOCK TABLE {names} IN EXCLUSIVE MODE"
    ))
}

fn refuse_unless_empty(target: &mut Conn, tables: &[Table]) -> Result<(), Aborted> {
    for table in tables {
        let seed = SEEDED.iter().find(|seed| seed.0 == table.name);
        let others = seed.map_or("TRUE".to_owned(), |(_, seed)| format!("NOT ({seed})"));
        let rows = count_where(target, &table.name, &others)?;
        if rows > 0 {
            return Err(refuse(format!(
                "the target is not empty: {} has {rows} rows",
                table.name
            )));
        }
    }
    Ok(())
}

fn copy(source: &mut Conn, table: &Table, target: &mut Conn) -> Result<Summary, Aborted> {
    execute(target, &format!("DELETE FROM {}", quoted(&table.name)))?;
    let mut summing = Summing::default();
    let mut batch = Batch::new(table);
    rows::each(source, table, |row| {
        summing.add(&row);
        Ok(batch.add(row, target)?)
    })?;
    batch.write(target)?;
    Ok(summing.finish())
}

fn execute(conn: &mut Conn, statement: &str) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => conn.batch_execute(statement),
        Conn::Postgres(conn) => conn.batch_execute(statement),
    }
}
