//! What a table holds, in two numbers: the same on both sides after a copy.

use sha2::{Digest as _, Sha256};

use super::{
    rows::{self, Row, Value},
    tables::Table,
};
use crate::db::{Aborted, Conn};

/// How many rows, and their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub rows: u64,
    /// Of all its values in the order of its primary key, in hexadecimal.
    pub sha256: String,
}

#[derive(Default)]
pub(super) struct Summing {
    rows: u64,
    digest: Sha256,
}

impl Summing {
    /// Each value with its type and length: no two rows have the same bytes.
    pub(super) fn add(&mut self, row: &Row) {
        let mut one = |tag: u8, bytes: &[u8]| {
            self.digest.update([tag]);
            self.digest.update((bytes.len() as u64).to_be_bytes());
            self.digest.update(bytes);
        };
        for value in &row.0 {
            match value {
                Value::Null => one(0, &[]),
                Value::Integer(number) => one(1, &number.to_be_bytes()),
                Value::Boolean(yes) => one(2, &[u8::from(*yes)]),
                Value::Bytes(bytes) => one(3, bytes),
                Value::Text(text) => one(4, text.as_bytes()),
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

/// What a table holds now.
pub(super) fn of(conn: &mut Conn, table: &Table) -> Result<Summary, Aborted> {
    let mut summing = Summing::default();
    rows::each(conn, table, |row| {
        summing.add(&row);
        Ok(())
    })?;
    Ok(summing.finish())
}
