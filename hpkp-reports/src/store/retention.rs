//! Deletes old groups: by age, then by size.

use super::backend::{Backend, Value};
use super::error::StoreError;
use crate::time::DAY;

/// The size of the database and its limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The current size.
    pub used: u64,
    /// The largest allowed size.
    pub limit: u64,
}

/// Deletes groups whose last report is older than `days`, and then the oldest groups until the database is within
/// `limit`. Returns the number of deleted groups, and the new size.
pub(super) fn apply(
    backend: &mut dyn Backend,
    now: i64,
    days: u32,
    limit: u64,
) -> Result<(u64, Size), StoreError> {
    let before = now.saturating_sub(i64::from(days).saturating_mul(DAY));
    let mut gone =
        backend.execute("DELETE FROM report_groups WHERE last_seen < $1", &[Value::Int(before)])?;
    let mut used = backend.size()?;
    while used > limit {
        let rows = backend.query("SELECT MIN(day) FROM report_groups", &[])?;
        let Some(Value::Int(day)) = rows.into_iter().next().and_then(|row| row.into_iter().next())
        else {
            break;
        };
        // One day may have all groups, so a tenth of it is deleted at a time.
        let sql = "DELETE FROM report_groups WHERE id IN (SELECT id FROM report_groups WHERE day = $1 \
                   ORDER BY last_seen LIMIT (SELECT COUNT(*) / 10 + 1 FROM report_groups WHERE day = $2))";
        let deleted = backend.execute(sql, &[Value::Int(day), Value::Int(day)])?;
        gone += deleted;
        if deleted == 0 {
            break;
        }
        used = backend.size()?;
    }
    if gone > 0 {
        backend.shrink()?;
    }
    Ok((gone, Size { used, limit }))
}
