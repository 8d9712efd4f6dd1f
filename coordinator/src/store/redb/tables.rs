//! The tables, and what a transaction does to them.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use trainyard_common::ids::JobId;

use super::super::{Append, Change, SeriesKind};

/// `format` and `term`. This table's shape never changes, whatever the format.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
pub(super) const RECORDS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("records");
/// (series, sequence) -> item.
pub(super) const ITEMS: TableDefinition<'static, (&str, u64), &[u8]> =
    TableDefinition::new("items");
/// series -> (lowest kept sequence, next sequence).
pub(super) const BOUNDS: TableDefinition<'static, &str, (u64, u64)> =
    TableDefinition::new("bounds");

/// Items that one call of `drop_series` removes: a tenth of a second of work, for which commits wait.
const MAX_DROPPED: usize = 2_000;

pub(super) const META_FORMAT: &str = "format";
pub(super) const META_TERM: &str = "term";

pub(super) fn term_of(transaction: &WriteTransaction) -> Result<u64, redb::Error> {
    let meta = transaction.open_table(META)?;
    let term = meta.get(META_TERM)?.map_or(0, |value| value.value());
    Ok(term)
}

pub(super) fn apply_changes(
    transaction: &WriteTransaction,
    changes: &[Change],
) -> Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut records = transaction.open_table(RECORDS)?;
    for change in changes {
        match change {
            Change::Put { key, value } => records.insert(key.as_str(), value.as_slice())?,
            Change::Delete { key } => records.remove(key.as_str())?,
        };
    }
    Ok(())
}

pub(super) fn apply_appends(
    transaction: &WriteTransaction,
    appends: &[Append],
) -> Result<(), redb::Error> {
    if appends.is_empty() {
        return Ok(());
    }
    let mut items = transaction.open_table(ITEMS)?;
    let mut bounds = transaction.open_table(BOUNDS)?;
    for append in appends {
        let name = append.series.to_string();
        let (mut lowest, mut next) = bounds
            .get(name.as_str())?
            .map_or((1, 1), |value| value.value());
        for value in &append.values {
            items.insert((name.as_str(), next), value.as_slice())?;
            next += 1;
        }
        while next - lowest > append.series.kind.limit() {
            items.remove((name.as_str(), lowest))?;
            lowest += 1;
        }
        bounds.insert(name.as_str(), (lowest, next))?;
    }
    Ok(())
}

/// Removes up to [`MAX_DROPPED`] items of a job; whether there may be more.
pub(super) fn drop_some(transaction: &WriteTransaction, job: &JobId) -> Result<bool, redb::Error> {
    let mut items = transaction.open_table(ITEMS)?;
    let mut bounds = transaction.open_table(BOUNDS)?;
    let mut left = MAX_DROPPED;
    for kind in SeriesKind::ALL {
        let prefix = format!("{}/{job}/", kind.name());
        loop {
            let first = bounds.range(prefix.as_str()..)?.next().transpose()?;
            let first = first.map(|(name, bound)| (name.value().to_owned(), bound.value()));
            let Some((name, (lowest, next))) = first.filter(|(name, _)| name.starts_with(&prefix))
            else {
                break;
            };
            let end = next.min(lowest.saturating_add(left as u64));
            for number in lowest..end {
                items.remove((name.as_str(), number))?;
            }
            left -= usize::try_from(end - lowest).unwrap_or(left);
            if end < next {
                bounds.insert(name.as_str(), (end, next))?;
                return Ok(true);
            }
            bounds.remove(name.as_str())?;
        }
    }
    Ok(false)
}
