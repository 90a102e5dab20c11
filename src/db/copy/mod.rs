//! Copies all data of a database into an empty one, between SQLite and PostgreSQL in either direction.
//!
//! The source is read in one transaction, as a snapshot. The target is written in one transaction, so it stays empty
//! if anything fails. Before the commit, the written rows are read back and compared with those of the source.

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
    served::reject_if_served,
    summary::SummaryBuilder,
    tables::{Kind, Table, count_where, quoted},
};
use super::{
    Aborted, Claim, ClaimError, Conn, ConnectError,
    manager::Manager,
    migrations::{self, MigrateError},
};
use crate::{config::database_url::DatabaseUrl, domain::error::Error};

/// Tables that are not copied, because they contain no user data. The target has its own.
///
/// They coordinate running instances, or list the migrations that have run.
pub const EXCLUDED_TABLES: [&str; 5] = [
    "__diesel_schema_migrations",
    "instances",
    "key_changes",
    "revision_clock",
    "usage_writers",
];

/// Tables that migrations insert rows into, each with the SQL condition for these rows. A table with other rows is not
/// empty.
const SEEDED: [(&str, &str); 2] = [("roles", "built_in"), ("usage_rollup", "TRUE")];

/// Statement that limits the wait for other transactions to release the target's tables.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";

/// Error raised when nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("there is no database at {}", .0.display())]
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
    Rejected(String),
}

/// Table that was copied.
pub struct Copied {
    pub table: String,
    pub summary: Summary,
}

/// Copies all data. Fails if either database is being served.
pub fn run(from: &DatabaseUrl, to: &DatabaseUrl) -> Result<Vec<Copied>, CopyError> {
    if let Some(path) = from.sqlite_path().filter(|path| !path.exists()) {
        return Err(CopyError::NoDatabase(path.to_owned()));
    }
    // The claims keep other processes from serving either database until the copy has ended.
    let _claims = (Claim::take(from)?, Claim::take(to)?);
    let layout = Layout::of_this_version()?;
    let mut source = open(from, "the source", Manager::open)?;
    reject_if_served(&mut source, "source").map_err(copy_error)?;
    begin_reading(&mut source, &layout).map_err(copy_error)?;
    {
        let mut target = open(to, "the target", |manager| {
            manager.open_or_create().map(|(conn, _)| conn)
        })?;
        reject_if_served(&mut target, "target").map_err(copy_error)?;
    }
    migrations::run(to)?;
    let mut target = open(to, "the target", Manager::open)?;
    target
        .write(|target| fill(&mut source, &layout, target))
        .map_err(copy_error)
}

/// Migrations and tables of a database of this version. Other tables belong to other programs.
struct Layout {
    migrations: Vec<String>,
    tables: Vec<Table>,
}

impl Layout {
    fn of_this_version() -> Result<Self, CopyError> {
        let mut fresh = migrations::fresh()?;
        let failed = |error: QueryError| CopyError::Rejected(error.to_string());
        let migrations = applied(&mut fresh).map_err(failed)?;
        let tables = tables::all(&mut fresh).map_err(failed)?.into_iter();
        let tables = tables.filter(|table| !EXCLUDED_TABLES.contains(&table.name.as_str()));
        Ok(Self {
            migrations,
            tables: tables.collect(),
        })
    }

    /// Fails unless the database has all tables of the layout with the same columns.
    fn require_same_tables(&self, conn: &mut Conn, side: &str) -> Result<(), Aborted> {
        let found = tables::all(conn)?;
        let is_supported = |table: &Table| {
            let mut kinds = table.columns.iter().map(|column| &column.kind);
            !table.key.is_empty() && !kinds.any(|kind| matches!(kind, Kind::Other(_)))
        };
        let matches = |table: &&Table| found.contains(table) && is_supported(table);
        match self.tables.iter().find(|table| !matches(table)) {
            None => Ok(()),
            Some(table) => {
                let name = &table.name;
                Err(rejected(format!(
                    "the table {name} of the {side} is missing or does not have the columns of this version"
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

fn copy_error(aborted: Aborted) -> CopyError {
    CopyError::Rejected(match aborted {
        Aborted::Query(error) => error.to_string(),
        Aborted::Rejected(Error::Conflict(reason)) => reason.into_owned(),
        Aborted::Rejected(error) => error.to_string(),
    })
}

fn rejected(reason: impl Into<String>) -> Aborted {
    Error::Conflict(reason.into().into()).into()
}

/// Begins a read transaction on a snapshot of the source, and checks that the source fits this version.
fn begin_reading(source: &mut Conn, layout: &Layout) -> Result<(), Aborted> {
    match source {
        Conn::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN")?,
        Conn::Postgres(conn) => AnsiTransactionManager::begin_transaction_sql(
            conn,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )?,
    }
    let all = tables::all(source)?;
    if !all.iter().any(|table| table.name == EXCLUDED_TABLES[0]) {
        return Err(rejected("the source is not a database of latchkey"));
    }
    if applied(source)? != layout.migrations {
        return Err(rejected(
            "the source is of another version; migrate it with `latchkey migrate` of this version, with \
             DATABASE_URL set to the source",
        ));
    }
    layout.require_same_tables(source, "source")
}

/// Returns the versions of the migrations that have run.
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
    Ok(applied
        .into_iter()
        .map(|migration| migration.version)
        .collect())
}

/// Writes all rows of the source, inside a transaction on the target.
fn fill(source: &mut Conn, layout: &Layout, target: &mut Conn) -> Result<Vec<Copied>, Aborted> {
    layout.require_same_tables(target, "target")?;
    let tables = &layout.tables;
    lock_tables(target, tables)?;
    require_empty(target, tables)?;
    let references = References::defer(target, tables)?;
    let mut written = Vec::with_capacity(tables.len());
    for table in tables {
        written.push(copy(source, table, target)?);
    }
    references.check(target)?;
    let read_back = |(table, summary): (&Table, Summary)| {
        let name = table.name.clone();
        if summary::of(target, table)? != summary {
            return Err(rejected(format!(
                "the rows of {name} differ from those of the source when read back"
            )));
        }
        Ok(Copied {
            table: name,
            summary,
        })
    };
    tables.iter().zip(written).map(read_back).collect()
}

/// Keeps other transactions from changing the tables.
fn lock_tables(target: &mut Conn, tables: &[Table]) -> QueryResult<()> {
    let Conn::Postgres(conn) = target else {
        // SQLite has one writer, and this transaction is it.
        return Ok(());
    };
    let names: Vec<_> = tables.iter().map(|table| quoted(&table.name)).collect();
    let names = names.join(", ");
    conn.batch_execute(&format!(
        "{LOCK_TIMEOUT}; LOCK TABLE {names} IN EXCLUSIVE MODE"
    ))
}

fn require_empty(target: &mut Conn, tables: &[Table]) -> Result<(), Aborted> {
    for table in tables {
        let seed = SEEDED.iter().find(|seed| seed.0 == table.name);
        let others = seed.map_or("TRUE".to_owned(), |(_, seed)| format!("NOT ({seed})"));
        let rows = count_where(target, &table.name, &others)?;
        if rows > 0 {
            return Err(rejected(format!(
                "the target is not empty: {} has {rows} rows",
                table.name
            )));
        }
    }
    Ok(())
}

fn copy(source: &mut Conn, table: &Table, target: &mut Conn) -> Result<Summary, Aborted> {
    execute(target, &format!("DELETE FROM {}", quoted(&table.name)))?;
    let mut summary = SummaryBuilder::default();
    let mut batch = Batch::new(table);
    rows::each(source, table, |row| {
        summary.add(&row);
        Ok(batch.add(row, target)?)
    })?;
    batch.write(target)?;
    Ok(summary.finish())
}

fn execute(conn: &mut Conn, statement: &str) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => conn.batch_execute(statement),
        Conn::Postgres(conn) => conn.batch_execute(statement),
    }
}
