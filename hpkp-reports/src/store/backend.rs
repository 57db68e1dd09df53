//! The interface to a database: statements with numbered parameters, and transactions.

use std::fmt;

use super::error::StoreError;

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// The number; 0 for other values.
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            _ => 0,
        }
    }

    /// The text; empty for other values.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            _ => String::new(),
        }
    }

    /// The bytes; empty for other values.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => Vec::new(),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A row.
pub type Row = Vec<Value>;

/// A database. Parameters are `$1`, `$2` … and first occur in a statement in that order, so that SQLite and PostgreSQL
/// bind them alike.
pub trait Backend: Send + fmt::Debug {
    /// The type of a column for bytes.
    fn bytes_type(&self) -> &'static str;

    /// Checks that the open database is still the file of its name.
    ///
    /// # Errors
    /// The file was removed or replaced.
    fn is_in_place(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// The database's, or the database would exceed its limit.
    fn begin(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN")
    }

    /// Begins a transaction that only one collector at a time can have.
    ///
    /// # Errors
    /// The database's.
    fn begin_alone(&mut self) -> Result<(), StoreError>;

    /// Runs statements without parameters.
    ///
    /// # Errors
    /// The database's.
    fn run(&mut self, sql: &str) -> Result<(), StoreError>;

    /// Runs a statement. Returns the number of changed rows.
    ///
    /// # Errors
    /// The database's.
    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, StoreError>;

    /// Runs a query.
    ///
    /// # Errors
    /// The database's.
    fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// The number in the first column of the first row; 0 without a row.
    ///
    /// # Errors
    /// The database's.
    fn number(&mut self, sql: &str, parameters: &[Value]) -> Result<i64, StoreError> {
        let rows = self.query(sql, parameters)?;
        Ok(rows.first().and_then(|row| row.first()).map_or(0, Value::int))
    }

    /// The size of the database in bytes.
    ///
    /// # Errors
    /// The database's.
    fn size(&mut self) -> Result<u64, StoreError>;

    /// Returns the space of deleted rows to the system.
    ///
    /// # Errors
    /// The database's.
    fn shrink(&mut self) -> Result<(), StoreError>;
}
