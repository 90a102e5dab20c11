//! Summarises the rows of a table by their number and digest, which must be equal on both sides after a copy.

use sha2::{Digest as _, Sha256};

use super::{
    rows::{self, Row, Value},
    tables::Table,
};
use crate::db::{Aborted, Conn};

/// Number of rows of a table, and their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub rows: u64,
    /// SHA-256 of all values in the order of the primary key, in hexadecimal.
    pub sha256: String,
}

/// Builder of a [`Summary`].
#[derive(Default)]
pub(super) struct SummaryBuilder {
    rows: u64,
    digest: Sha256,
}

impl SummaryBuilder {
    /// Adds a row. Each value is hashed with its type and length, so that different rows never give the same bytes.
    pub(super) fn add(&mut self, row: &Row) {
        let mut add_value = |tag: u8, bytes: &[u8]| {
            self.digest.update([tag]);
            self.digest.update((bytes.len() as u64).to_be_bytes());
            self.digest.update(bytes);
        };
        for value in &row.0 {
            match value {
                Value::Null => add_value(0, &[]),
                Value::Integer(number) => add_value(1, &number.to_be_bytes()),
                Value::Boolean(boolean) => add_value(2, &[u8::from(*boolean)]),
                Value::Bytes(bytes) => add_value(3, bytes),
                Value::Text(text) => add_value(4, text.as_bytes()),
            }
        }
        self.rows += 1;
    }

    pub(super) fn finish(self) -> Summary {
        let digest = self.digest.finalize();
        Summary {
            rows: self.rows,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// Returns the summary of a table's current rows.
pub(super) fn of(conn: &mut Conn, table: &Table) -> Result<Summary, Aborted> {
    let mut builder = SummaryBuilder::default();
    rows::each(conn, table, |row| {
        builder.add(&row);
        Ok(())
    })?;
    Ok(builder.finish())
}
