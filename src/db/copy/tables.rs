//! Reads the tables and columns of a database from its catalogue.
//!
//! So copies and checks need no list of columns in the code, which a migration could make incomplete.

use diesel::{
    QueryResult, QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Text},
};

use crate::db::Conn;

/// Table of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Columns, sorted by name.
    pub columns: Vec<Column>,
    /// Columns of the primary key, in the key's order.
    pub key: Vec<Column>,
}

/// Column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

/// Type of a column, independent of the database's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Boolean,
    Bytes,
    Text,
    /// Type that the code does not support.
    Other(String),
}

impl Kind {
    fn of(declared: &str) -> Self {
        match declared {
            "bigint" => Self::Integer,
            "boolean" => Self::Boolean,
            "blob" | "bytea" => Self::Bytes,
            "text" => Self::Text,
            other => Self::Other(other.to_owned()),
        }
    }
}

const SQLITE_COLUMNS: &str = r#"
    SELECT tables.name AS table_name, columns.name AS column_name, lower(columns.type) AS declared,
           CAST(columns.pk AS BIGINT) AS key_position
    FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite\_%' ESCAPE '\'
    ORDER BY tables.name, columns.name"#;

// The positions in `indkey` start at 0.
const POSTGRES_COLUMNS: &str = r#"
    SELECT tables.relname::text AS table_name, columns.attname::text AS column_name,
           format_type(columns.atttypid, columns.atttypmod) AS declared,
           COALESCE(array_position(keys.indkey::int2[], columns.attnum) + 1, 0)::bigint AS key_position
    FROM pg_class AS tables
    JOIN pg_attribute AS columns
      ON columns.attrelid = tables.oid AND columns.attnum > 0 AND NOT columns.attisdropped
    LEFT JOIN pg_index AS keys ON keys.indrelid = tables.oid AND keys.indisprimary
    WHERE tables.relkind IN ('r', 'p') AND tables.relnamespace = current_schema()::regnamespace
    ORDER BY tables.relname COLLATE "C", columns.attname COLLATE "C""#;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Text)]
    declared: String,
    #[diesel(sql_type = BigInt)]
    key_position: i64,
}

/// Returns all tables, sorted by name.
pub fn all(conn: &mut Conn) -> QueryResult<Vec<Table>> {
    let rows: Vec<Row> = match conn {
        Conn::Sqlite(conn) => sql_query(SQLITE_COLUMNS).load(conn)?,
        Conn::Postgres(conn) => sql_query(POSTGRES_COLUMNS).load(conn)?,
    };
    let tables = rows.chunk_by(|row, next| row.table_name == next.table_name);
    Ok(tables.map(Table::of).collect())
}

impl Table {
    fn of(rows: &[Row]) -> Self {
        let column = |row: &Row| Column {
            name: row.column_name.clone(),
            kind: Kind::of(&row.declared),
        };
        let mut key: Vec<_> = rows.iter().filter(|row| row.key_position > 0).collect();
        key.sort_by_key(|row| row.key_position);
        Self {
            name: rows
                .first()
                .map_or_else(String::new, |row| row.table_name.clone()),
            columns: rows.iter().map(column).collect(),
            key: key.into_iter().map(column).collect(),
        }
    }

    /// Returns the names of the columns as a list in SQL.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<_> = self
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        names.join(", ")
    }
}

/// Returns the number of rows of a table.
pub fn count(conn: &mut Conn, table: &str) -> QueryResult<i64> {
    count_where(conn, table, "TRUE")
}

/// Returns the number of rows of a table that meet this SQL condition.
pub(super) fn count_where(conn: &mut Conn, table: &str, condition: &str) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let table = quoted(table);
    let query = sql_query(format!(
        "SELECT count(*) AS count FROM {table} WHERE {condition}"
    ));
    let Count { count } = match conn {
        Conn::Sqlite(conn) => query.get_result(conn)?,
        Conn::Postgres(conn) => query.get_result(conn)?,
    };
    Ok(count)
}

/// Returns the name as a quoted SQL identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
