//! Rows and queries, one file per table. This module knows SQL but no HTTP.

pub mod api_key;
pub mod audit_log;
pub mod instance;
pub mod key_change;
pub mod key_facts;
pub mod key_limits;
pub mod key_lineage;
pub mod key_settings;
pub mod quota_usage;
pub mod role;
pub mod usage;
pub mod user;
pub mod write_probe;

use crate::db::Conn;

/// Condition on the rows of one owner that are older than a given id, as bounds of the index over both columns.
///
/// A query with this condition must be ordered by both columns, so that no other index fits. Otherwise PostgreSQL
/// walks the index of ids over all rows if it estimates that the owner has many, however far back they are.
macro_rules! of_owner_before {
    ($owner_column:literal, $id_column:literal, $owner:expr, $before:expr) => {
        diesel::dsl::sql::<diesel::sql_types::Bool>(concat!($owner_column, " >= "))
            .bind::<diesel::sql_types::Binary, _>($owner)
            .sql(concat!(" AND (", $owner_column, ", ", $id_column, ") < ("))
            .bind::<diesel::sql_types::Binary, _>($owner)
            .sql(", ")
            .bind::<diesel::sql_types::Binary, _>($before.unwrap_or($crate::domain::id::Id::LAST))
            .sql(")")
    };
}
use of_owner_before;

/// Returns the placeholders of a `VALUES` list with this number of rows and columns.
fn parameters(conn: &Conn, rows: usize, columns: usize) -> String {
    // SQLite compares each named parameter with all those before it, which takes quadratic time.
    let is_sqlite = matches!(conn, Conn::Sqlite(_));
    let placeholder = |number: usize| {
        if is_sqlite {
            "?".to_owned()
        } else {
            format!("${}", number + 1)
        }
    };
    let row = |row: usize| {
        let placeholders = (row * columns..(row + 1) * columns).map(placeholder);
        format!("({})", placeholders.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Returns a `LIKE` pattern that matches texts with `part` in them. Its escape character is `\`.
fn contains(part: &str) -> String {
    let mut pattern = String::from("%");
    for character in part.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
