//! Inserts rows in batches, large enough to be fast and small enough to take little memory.

use diesel::{
    QueryResult, RunQueryDsl as _,
    pg::Pg,
    query_builder::{BoxedSqlQuery, SqlQuery},
    result::Error as QueryError,
    sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, Text},
    sqlite::Sqlite,
};

use super::{
    rows::{Row, Value},
    tables::{Kind, Table, quoted},
};
use crate::db::Conn;

/// Rows of one table that are inserted together.
pub(super) struct Batch<'t> {
    table: &'t Table,
    rows: Vec<Row>,
    bytes: usize,
}

/// Maximum number of values in one statement. SQLite accepts 32,766 parameters.
const MAX_VALUES: usize = 32_000;
const MAX_ROWS: usize = 1_000;
/// Approximate maximum size of a batch in memory.
const MAX_BYTES: usize = 1 << 20;

impl<'t> Batch<'t> {
    pub(super) fn new(table: &'t Table) -> Self {
        let rows = Vec::new();
        Self {
            table,
            rows,
            bytes: 0,
        }
    }

    /// Adds a row, and writes the batch if it is full.
    pub(super) fn add(&mut self, row: Row, into: &mut Conn) -> QueryResult<()> {
        self.bytes += row.size();
        self.rows.push(row);
        let values = (self.rows.len() + 1) * self.table.columns.len();
        let is_full = self.bytes >= MAX_BYTES || self.rows.len() >= MAX_ROWS || values > MAX_VALUES;
        if is_full { self.write(into) } else { Ok(()) }
    }

    /// Writes the rows of the batch, and empties it.
    pub(super) fn write(&mut self, into: &mut Conn) -> QueryResult<()> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let start = format!(
            "INSERT INTO {} ({})",
            quoted(&self.table.name),
            self.table.column_list()
        );
        let expected = rows.len();
        let written = match into {
            Conn::Sqlite(conn) => self.sqlite_insert(start, rows).execute(conn)?,
            Conn::Postgres(conn) => self.postgres_insert(start, rows).execute(conn)?,
        };
        if written == expected {
            Ok(())
        } else {
            Err(QueryError::NotFound)
        }
    }

    fn sqlite_insert(
        &self,
        start: String,
        rows: Vec<Row>,
    ) -> BoxedSqlQuery<'static, Sqlite, SqlQuery> {
        let placeholders = vec!["?"; self.table.columns.len()].join(", ");
        let placeholders = vec![format!("({placeholders})"); rows.len()].join(", ");
        let mut insert = sql_query(format!("{start} VALUES {placeholders}")).into_boxed();
        for value in rows.into_iter().flat_map(|row| row.0) {
            insert = match value {
                Value::Null => insert.bind::<Nullable<BigInt>, _>(None::<i64>),
                Value::Integer(number) => insert.bind::<BigInt, _>(number),
                Value::Boolean(boolean) => insert.bind::<Bool, _>(boolean),
                Value::Bytes(bytes) => insert.bind::<Binary, _>(bytes),
                Value::Text(text) => insert.bind::<Text, _>(text),
            };
        }
        insert
    }

    /// Returns an insert with one array per column, so that its length does not depend on the number of rows.
    fn postgres_insert(
        &self,
        start: String,
        rows: Vec<Row>,
    ) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
        let columns = self.table.columns.iter().enumerate();
        let arrays: Vec<_> = columns
            .map(|(index, column)| format!("${}::{}[]", index + 1, postgres_type(&column.kind)))
            .collect();
        let arrays = arrays.join(", ");
        let mut insert = sql_query(format!("{start} SELECT * FROM unnest({arrays})")).into_boxed();
        let mut rows: Vec<_> = rows.into_iter().map(|row| row.0.into_iter()).collect();
        for column in &self.table.columns {
            let values = rows.iter_mut().map(|row| row.next().unwrap_or(Value::Null));
            macro_rules! bind {
                ($sql:ty, $variant:ident) => {{
                    let values: Vec<Option<_>> = values
                        .map(|value| match value {
                            Value::$variant(value) => Some(value),
                            _ => None,
                        })
                        .collect();
                    insert.bind::<Array<Nullable<$sql>>, _>(values)
                }};
            }
            insert = match column.kind {
                Kind::Integer => bind!(BigInt, Integer),
                Kind::Boolean => bind!(Bool, Boolean),
                Kind::Bytes => bind!(Binary, Bytes),
                Kind::Text | Kind::Other(_) => bind!(Text, Text),
            };
        }
        insert
    }
}

fn postgres_type(kind: &Kind) -> &str {
    match kind {
        Kind::Integer => "bigint",
        Kind::Boolean => "boolean",
        Kind::Bytes => "bytea",
        Kind::Text => "text",
        Kind::Other(name) => name,
    }
}
