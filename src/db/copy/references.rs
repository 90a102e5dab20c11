//! Defers the check of the target's foreign keys until all rows are written.
//!
//! A row may be written before the row that it refers to.

use diesel::{
    QueryResult, QueryableByName, RunQueryDsl as _,
    connection::SimpleConnection as _,
    sql_query,
    sql_types::{Array, Text},
};

use super::{execute, tables::Table};
use crate::db::Conn;

/// Foreign keys that were made deferrable for the copy.
pub(super) struct References(Vec<Reference>);

#[derive(QueryableByName)]
struct Reference {
    #[diesel(sql_type = Text)]
    alter: String,
}

impl References {
    /// Defers the checks until the end of the current transaction.
    pub(super) fn defer(target: &mut Conn, tables: &[Table]) -> QueryResult<Self> {
        let Conn::Postgres(conn) = target else {
            execute(target, "PRAGMA defer_foreign_keys = ON")?;
            return Ok(Self(Vec::new()));
        };
        let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
        let references: Vec<Reference> = sql_query(
            "SELECT format('ALTER TABLE %s ALTER CONSTRAINT %I', conrelid::regclass, conname) AS alter
             FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
             WHERE contype = 'f' AND NOT condeferrable
               AND relnamespace = current_schema()::regnamespace AND relname = ANY($1)",
        )
        .bind::<Array<Text>, _>(names)
        .load(conn)?;
        for Reference { alter } in &references {
            conn.batch_execute(&format!("{alter} DEFERRABLE"))?;
        }
        conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
        Ok(Self(references))
    }

    /// Fails if a row refers to a missing row. Restores the constraints.
    ///
    /// On SQLite it does nothing: SQLite checks at the end of the transaction.
    pub(super) fn check(self, target: &mut Conn) -> QueryResult<()> {
        let Conn::Postgres(conn) = target else {
            return Ok(());
        };
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE")?;
        for Reference { alter } in self.0 {
            conn.batch_execute(&format!("{alter} NOT DEFERRABLE"))?;
        }
        Ok(())
    }
}
