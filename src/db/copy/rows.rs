//! Reads the rows of any table, one at a time.

use diesel::{
    QueryResult, QueryableByName, RunQueryDsl as _,
    connection::DefaultLoadingMode,
    deserialize::{self, FromSql},
    pg::{Pg, PgRowByRowLoadingMode},
    result::Error as QueryError,
    row::{Field as _, NamedRow},
    sql_query,
    sql_types::{BigInt, Binary, Bool, Text},
    sqlite::{Sqlite, SqliteType},
};

use super::tables::{Column, Kind, Table, quoted};
use crate::db::{Aborted, Conn};

/// Value of a column in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Boolean(bool),
    Bytes(Vec<u8>),
    Text(String),
}

/// Values of a row, in the order of the table's columns.
pub(super) struct Row(pub(super) Vec<Value>);

// PostgreSQL's object identifiers (OID) of its built-in types, which never change.
const BOOLEAN: u32 = 16;
const BYTEA: u32 = 17;
const BIGINT: u32 = 20;
const TEXT: u32 = 25;

impl QueryableByName<Pg> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let read = |position| {
            let field = diesel::row::Row::get(row, position).ok_or("a column is missing")?;
            let Some(value) = field.value() else {
                return Ok(Value::Null);
            };
            match value.get_oid().get() {
                BOOLEAN => FromSql::<Bool, Pg>::from_sql(value).map(Value::Boolean),
                BYTEA => FromSql::<Binary, Pg>::from_sql(value).map(Value::Bytes),
                BIGINT => FromSql::<BigInt, Pg>::from_sql(value).map(Value::Integer),
                TEXT => FromSql::<Text, Pg>::from_sql(value).map(Value::Text),
                other => Err(format!("a column has the unsupported type {other}").into()),
            }
        };
        let values: deserialize::Result<_> = (0..row.field_count()).map(read).collect();
        values.map(Self)
    }
}

/// SQLite has no booleans: they are read as integers.
impl QueryableByName<Sqlite> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let read = |position| {
            let field = diesel::row::Row::get(row, position).ok_or("a column is missing")?;
            let Some(value) = field.value() else {
                return Ok(Value::Null);
            };
            match value.value_type() {
                Some(SqliteType::Long | SqliteType::Integer | SqliteType::SmallInt) => {
                    FromSql::<BigInt, Sqlite>::from_sql(value).map(Value::Integer)
                }
                Some(SqliteType::Binary) => {
                    FromSql::<Binary, Sqlite>::from_sql(value).map(Value::Bytes)
                }
                Some(SqliteType::Text) => FromSql::<Text, Sqlite>::from_sql(value).map(Value::Text),
                other => Err(format!("a column has the unsupported type {other:?}").into()),
            }
        };
        let values: deserialize::Result<_> = (0..row.field_count()).map(read).collect();
        values.map(Self)
    }
}

impl Row {
    /// Converts each value to the type of its column. Fails if one has another type, which SQLite permits.
    fn typed(self, table: &Table) -> QueryResult<Self> {
        let typed = |(value, column): (Value, &Column)| match (value, &column.kind) {
            (Value::Integer(number @ (0 | 1)), Kind::Boolean) => Ok(Value::Boolean(number == 1)),
            (value @ Value::Null, _)
            | (value @ Value::Integer(_), Kind::Integer)
            | (value @ Value::Boolean(_), Kind::Boolean)
            | (value @ Value::Bytes(_), Kind::Bytes)
            | (value @ Value::Text(_), Kind::Text) => Ok(value),
            _ => {
                let reason = format!(
                    "{}.{} has a value that is not of the column's type",
                    table.name, column.name
                );
                Err(QueryError::DeserializationError(reason.into()))
            }
        };
        let values = self.0.into_iter().zip(&table.columns).map(typed);
        values.collect::<QueryResult<_>>().map(Self)
    }

    /// Returns the approximate size of the row in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        let size = |value: &Value| match value {
            Value::Bytes(bytes) => bytes.len(),
            Value::Text(text) => text.len(),
            _ => 0,
        };
        self.0.iter().map(|value| size(value) + 32).sum()
    }
}

/// Reads a table in the order of its primary key, one row at a time.
pub(super) fn each(
    conn: &mut Conn,
    table: &Table,
    mut visit: impl FnMut(Row) -> Result<(), Aborted>,
) -> Result<(), Aborted> {
    let query = sql_query(format!(
        "SELECT {} FROM {} ORDER BY {}",
        table.column_list(),
        quoted(&table.name),
        order(conn, table)
    ));
    match conn {
        Conn::Sqlite(conn) => {
            for row in query.load_iter::<Row, DefaultLoadingMode>(conn)? {
                visit(row?.typed(table)?)?;
            }
        }
        Conn::Postgres(conn) => {
            for row in query.load_iter::<Row, PgRowByRowLoadingMode>(conn)? {
                visit(row?.typed(table)?)?;
            }
        }
    }
    Ok(())
}

/// Returns the `ORDER BY` list. Both databases then sort text by its bytes.
fn order(conn: &Conn, table: &Table) -> String {
    let column = |column: &Column| match (conn, &column.kind) {
        (Conn::Postgres(_), Kind::Text) => format!("{} COLLATE \"C\"", quoted(&column.name)),
        _ => quoted(&column.name),
    };
    let columns: Vec<_> = table.key.iter().map(column).collect();
    columns.join(", ")
}
