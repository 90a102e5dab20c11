//! Rows and the queries on them, a file per table. They know SQL and no HTTP.

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

/// Those rows of one owner that were made before another, as bounds of the index over both columns.
/// Ordered by these columns, no other index will do: PostgreSQL would rather walk all rows by their
/// ids where it takes the owner's for many, however far back they are.
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

/// So many rows of so many parameters each, as `VALUES` takes them.
fn parameters(conn: &Conn, rows: usize, columns: usize) -> String {
    // SQLite would look each name up among all those before it.
    let is_sqlite = matches!(conn, Conn::Sqlite(_));
    let parameter = |number: usize| match is_sqlite {
        true => "?".to_owned(),
        false => format!("${}", number + 1),
    };
    let row = |row: usize| {
        let of_row = (row * columns..(row + 1) * columns).map(parameter);
        format!("({})", of_row.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// A `LIKE` pattern, with `\` as its escape, for texts that have `part` in them.
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
