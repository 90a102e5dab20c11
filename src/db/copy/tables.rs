//! Which tables a database has, as itself says: what is copied and checked needs no list of columns here
//! that a migration could outgrow.

use diesel::{
    QueryResult, QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Text},
};

use crate::db::Conn;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// By name.
    pub columns: Vec<Column>,
    /// Those of its primary key, in its order.
    pub key: Vec<Column>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

/// What a column holds; the two databases have other names for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Boolean,
    Bytes,
    Text,
    /// One that there was none of when this was written.
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

const OF_SQLITE: &str = r#"
    SELECT tables.name AS table_name, columns.name AS column_name, lower(columns.type) AS declared,
           CAST(columns.pk AS BIGINT) AS key_position
    FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite\_%' ESCAPE '\'
    ORDER BY tables.name, columns.name"#;

// The positions of a key's columns are counted from 0 there.
const OF_POSTGRES: &str = r#"
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

/// All tables, by name.
pub fn all(conn: &mut Conn) -> QueryResult<Vec<Table>> {
    let rows: Vec<Row> = match conn {
        Conn::Sqlite(conn) => sql_query(OF_SQLITE).load(conn)?,
        Conn::Postgres(conn) => sql_query(OF_POSTGRES).load(conn)?,
    };
    let of_one_table = rows.chunk_by(|one, next| one.table_name == next.table_name);
    Ok(of_one_table.map(Table::of).collect())
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

    /// Its columns as a list in SQL.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<_> = self
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        names.join(", ")
    }
}

/// How many rows a table has.
pub fn count(conn: &mut Conn, table: &str) -> QueryResult<i64> {
    count_where(conn, table, "TRUE")
}

/// How many rows of a table this is true of.
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

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
