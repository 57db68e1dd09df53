//! The queue of alarms: added together with their groups, claimed by one collector at a time, and kept until they are
//! sent by each configured way (mail, webhook, command).

use super::backend::{Backend, Value};
use super::error::StoreError;

/// The longest that an alarm waits, in seconds. A due time further in the future was written by a clock that was ahead.
const LONGEST: i64 = 2 * 3600;

/// A queued alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The id of its group.
    pub group: String,
    /// Whether the finding is urgent.
    pub is_urgent: bool,
    /// When the alarm is due, in seconds since 1970 UTC.
    pub due: i64,
    /// The number of attempts to send it.
    pub tries: i64,
    /// Whether the limit per hour has delayed it.
    pub has_waited: bool,
    /// The ways by which it was sent already.
    pub done: String,
}

/// Adds an alarm, in the transaction of its group.
pub(super) fn add(
    backend: &mut dyn Backend,
    group: &str,
    is_urgent: bool,
    at: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO report_alarms (group_id, urgent, due, tries, waited, done, told) \
               VALUES ($1, $2, $3, 0, 0, '', 0) ON CONFLICT DO NOTHING";
    backend.execute(sql, &[group.into(), i64::from(is_urgent).into(), at.into()]).map(|_| ())
}

/// The due alarms, urgent ones first.
///
/// # Errors
/// The database's.
pub fn due(backend: &mut dyn Backend, now: i64, limit: i64) -> Result<Vec<Due>, StoreError> {
    let sql = "SELECT group_id, urgent, due, tries, waited, done FROM report_alarms \
               WHERE sent IS NULL AND (due <= $1 OR due > $2) \
               ORDER BY urgent DESC, due, group_id LIMIT $3";
    let rows = backend.query(sql, &[now.into(), (now + LONGEST).into(), limit.into()])?;
    let alarm = |row: Vec<Value>| {
        let mut values = row.into_iter();
        let mut next = || values.next().unwrap_or(Value::Null);
        Due {
            group: next().text(),
            is_urgent: next().int() != 0,
            due: next().int(),
            tries: next().int(),
            has_waited: next().int() != 0,
            done: next().text(),
        }
    };
    Ok(rows.into_iter().map(alarm).collect())
}

/// Claims an alarm until a time. Returns false if another collector was faster.
///
/// # Errors
/// The database's.
pub fn claim(backend: &mut dyn Backend, alarm: &Due, until: i64) -> Result<bool, StoreError> {
    let sql = "UPDATE report_alarms SET due = $1, tries = tries + 1 \
               WHERE group_id = $2 AND due = $3 AND sent IS NULL";
    let parameters = [until.into(), alarm.group.as_str().into(), alarm.due.into()];
    Ok(backend.execute(sql, &parameters)? > 0)
}

/// Marks an alarm as done. `is_sent` is false if another alarm stands for it.
///
/// # Errors
/// The database's.
pub fn finish(
    backend: &mut dyn Backend,
    group: &str,
    now: i64,
    is_sent: bool,
) -> Result<(), StoreError> {
    let sql = "UPDATE report_alarms SET sent = $1, told = $2 WHERE group_id = $3";
    let parameters = [now.into(), i64::from(is_sent).into(), group.into()];
    backend.execute(sql, &parameters).map(|_| ())
}

/// Sets the time of the next attempt, and the ways by which the alarm was sent.
///
/// # Errors
/// The database's.
pub fn again(
    backend: &mut dyn Backend,
    group: &str,
    due: i64,
    done: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE report_alarms SET due = $1, done = $2 WHERE group_id = $3";
    backend.execute(sql, &[due.into(), done.into(), group.into()]).map(|_| ())
}

/// Delays all due alarms because of the limit. Returns their number.
///
/// # Errors
/// The database's.
pub fn postpone(backend: &mut dyn Backend, now: i64, until: i64) -> Result<u64, StoreError> {
    let sql = "UPDATE report_alarms SET due = $1, waited = 1 \
               WHERE sent IS NULL AND tries = 0 AND (due <= $2 OR due > $3)";
    backend.execute(sql, &[until.into(), now.into(), (now + LONGEST).into()])
}

/// The number of other alarms that the limit has delayed.
///
/// # Errors
/// The database's.
pub fn left_out(backend: &mut dyn Backend, group: &str, now: i64) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM report_alarms \
               WHERE sent IS NULL AND tries = 0 AND waited = 1 AND due <= $1 AND group_id <> $2";
    let count = backend.number(sql, &[now.into(), group.into()])?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Marks all alarms that the limit has delayed until `until` as done, since one sent alarm stands for them.
///
/// # Errors
/// The database's.
pub fn leave_out(backend: &mut dyn Backend, now: i64, until: i64) -> Result<(), StoreError> {
    let sql = "UPDATE report_alarms SET sent = $1, told = 0 \
               WHERE sent IS NULL AND tries = 0 AND waited = 1 AND due <= $2";
    backend.execute(sql, &[now.into(), until.into()]).map(|_| ())
}

/// The number of alarms sent between two times, and the time of the first.
///
/// # Errors
/// The database's.
pub fn sent_between(
    backend: &mut dyn Backend,
    from: i64,
    to: i64,
) -> Result<(i64, i64), StoreError> {
    let sql = "SELECT COUNT(*), MIN(sent) FROM report_alarms \
               WHERE sent > $1 AND sent <= $2 AND told = 1";
    let rows = backend.query(sql, &[from.into(), to.into()])?;
    let value = |place: usize| rows.first().and_then(|row| row.get(place)).map_or(0, Value::int);
    Ok((value(0), value(1)))
}

/// Whether an alarm with the same finding, host and chain was sent since a time: each day has a group of its own.
///
/// # Errors
/// The database's.
pub fn is_repeated(
    backend: &mut dyn Backend,
    group: &super::Group,
    since: i64,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM report_alarms JOIN report_groups ON id = group_id \
               WHERE sent > $1 AND told = 1 AND host = $2 AND finding = $3 AND chain = $4";
    let parameters = [
        since.into(),
        group.host.as_str().into(),
        group.finding.as_str().into(),
        group.chain.as_str().into(),
    ];
    Ok(backend.number(sql, &parameters)? > 0)
}

/// The number of alarms that are not sent yet.
///
/// # Errors
/// The database's.
pub fn waiting(backend: &mut dyn Backend) -> Result<i64, StoreError> {
    backend.number("SELECT COUNT(*) FROM report_alarms WHERE sent IS NULL", &[])
}
