//! The tables, and what a transaction reads of them and does to them: every value with its checksum.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use trainyard_common::ids::JobId;

use super::super::checksum;
use super::super::{Append, Change, Item, SeriesKind};
use super::errors::Trouble;

/// Numbers of the whole, each under its name and, under its name and [`SUM`], its checksum. This table's
/// shape never changes, whatever the format.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// key -> record, sealed.
pub(super) const RECORDS: TableDefinition<'static, &str, &[u8]> =
    TableDefinition::new("sealed_records");

/// (series, sequence) -> item, sealed.
pub(super) const ITEMS: TableDefinition<'static, (&str, u64), &[u8]> =
    TableDefinition::new("sealed_items");

/// series -> (lowest kept sequence, next sequence, checksum).
pub(super) const BOUNDS: TableDefinition<'static, &str, (u64, u64, u64)> =
    TableDefinition::new("sealed_bounds");

/// What errors call them.
const META_NAME: &str = "meta";
pub(super) const RECORDS_NAME: &str = "records";
pub(super) const ITEMS_NAME: &str = "items";
const BOUNDS_NAME: &str = "bounds";

/// Version of the whole layout.
pub(super) const META_FORMAT: &str = "format";
/// The newest term.
pub(super) const META_TERM: &str = "term";
/// The sum of the checksums of all records: one that is missing, or stands as it was once, is found by it.
pub(super) const META_RECORDS: &str = "records";
/// What the name of a number's checksum ends in.
const SUM: &str = ".sum";

const CHECKSUM: &str = "its bytes are not those that were written (checksum)";
const MISSING: &str = "it is missing";

/// Items that one call of `drop_series` removes: a tenth of a second of work, for which commits wait.
const MAX_DROPPED: usize = 2_000;

/// A number of the whole, if it was ever written.
pub(super) fn number(
    meta: &impl ReadableTable<&'static str, u64>,
    name: &str,
) -> Result<Option<u64>, Trouble> {
    let found = meta.get(name)?.map(|value| value.value());
    let sum = meta.get(format!("{name}{SUM}").as_str())?;
    let sum = sum.map(|value| value.value());
    match (found, sum) {
        (Some(found), Some(sum)) if sum == sum_of(META_NAME, name, &[found]) => Ok(Some(found)),
        // Numbers of the first format had none.
        (Some(found), None) => Ok(Some(found)),
        (None, None) => Ok(None),
        _ => Err(Trouble::entry(META_NAME, name, CHECKSUM)),
    }
}

pub(super) fn set_number(
    meta: &mut Table<'_, &'static str, u64>,
    name: &str,
    number: u64,
) -> Result<(), Trouble> {
    let sum = sum_of(META_NAME, name, &[number]);
    meta.insert(name, number)?;
    meta.insert(format!("{name}{SUM}").as_str(), sum)?;
    Ok(())
}

fn sum_of(table: &str, key: &str, numbers: &[u64]) -> u64 {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    u64::from_le_bytes(checksum::of(table, &[key.as_bytes()], &bytes))
}

pub(super) fn term_of(transaction: &WriteTransaction) -> Result<u64, Trouble> {
    let meta = transaction.open_table(META)?;
    Ok(number(&meta, META_TERM)?.unwrap_or(0))
}

/// A record's value out of what is stored.
fn record<'a>(key: &str, sealed: &'a [u8]) -> Result<&'a [u8], Trouble> {
    let value = checksum::unseal(RECORDS_NAME, &[key.as_bytes()], sealed);
    value.ok_or_else(|| Trouble::entry(RECORDS_NAME, key, CHECKSUM))
}

/// What a sealed record adds to the sum of all.
fn share(sealed: &[u8]) -> u64 {
    sealed
        .first_chunk()
        .map_or(0, |sum| u64::from_le_bytes(*sum))
}

/// Every record, and that none is missing.
pub(super) fn all_records(
    transaction: &ReadTransaction,
) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
    let records = transaction.open_table(RECORDS)?;
    let (mut all, mut total) = (Vec::new(), 0_u64);
    for entry in records.iter()? {
        let (key, sealed) = entry?;
        let (key, sealed) = (key.value(), sealed.value());
        total = total.wrapping_add(share(sealed));
        all.push((key.to_owned(), record(key, sealed)?.to_owned()));
    }
    let expected = number(&transaction.open_table(META)?, META_RECORDS)?;
    if expected.unwrap_or(0) != total {
        let reason = "a record is missing, or stands as it was before (sum of checksums)";
        return Err(Trouble::entry(RECORDS_NAME, "*", reason));
    }
    Ok(all)
}

pub(super) fn page_of_records(
    transaction: &ReadTransaction,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
    let records = transaction.open_table(RECORDS)?;
    let mut found = Vec::new();
    for entry in records.range(after.max(prefix)..)? {
        let (key, sealed) = entry?;
        let key = key.value();
        if found.len() == limit || !key.starts_with(prefix) {
            break;
        }
        if key > after {
            found.push((key.to_owned(), record(key, sealed.value())?.to_owned()));
        }
    }
    Ok(found)
}

/// (lowest kept, next) of a series; a series that was never written begins at 1.
fn bounds_of(
    bounds: &impl ReadableTable<&'static str, (u64, u64, u64)>,
    series: &str,
) -> Result<(u64, u64), Trouble> {
    match bounds.get(series)?.map(|value| value.value()) {
        None => Ok((1, 1)),
        Some(stored) => bound(series, stored),
    }
}

fn bound(series: &str, stored: (u64, u64, u64)) -> Result<(u64, u64), Trouble> {
    let (lowest, next, sum) = stored;
    match sum == sum_of(BOUNDS_NAME, series, &[lowest, next]) {
        true => Ok((lowest, next)),
        false => Err(Trouble::entry(BOUNDS_NAME, series, CHECKSUM)),
    }
}

fn set_bounds(
    bounds: &mut Table<'_, &'static str, (u64, u64, u64)>,
    series: &str,
    lowest: u64,
    next: u64,
) -> Result<(), Trouble> {
    let sum = sum_of(BOUNDS_NAME, series, &[lowest, next]);
    bounds.insert(series, (lowest, next, sum))?;
    Ok(())
}

/// Items above `after`, and that none between them is missing.
pub(super) fn items_of(
    transaction: &ReadTransaction,
    series: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<Item>, Trouble> {
    let (lowest, next) = bounds_of(&transaction.open_table(BOUNDS)?, series)?;
    let first = after.saturating_add(1).max(lowest);
    let end = next.min(first.saturating_add(limit as u64));
    if first >= end {
        return Ok(Vec::new());
    }
    let items = transaction.open_table(ITEMS)?;
    let mut stored = items.range((series, first)..(series, end))?;
    let mut found = Vec::new();
    for sequence in first..end {
        let name = || format!("{series}/{sequence}");
        let missing = || Trouble::entry(ITEMS_NAME, name(), MISSING);
        let (key, sealed) = stored.next().ok_or_else(missing)??;
        if key.value() != (series, sequence) {
            return Err(missing());
        }
        let value = checksum::unseal(
            ITEMS_NAME,
            &item_key(series, &sequence.to_le_bytes()),
            sealed.value(),
        );
        let value = value.ok_or_else(|| Trouble::entry(ITEMS_NAME, name(), CHECKSUM))?;
        found.push(Item {
            sequence,
            value: value.to_owned(),
        });
    }
    Ok(found)
}

fn item_key<'a>(series: &'a str, sequence: &'a [u8; 8]) -> [&'a [u8]; 2] {
    [series.as_bytes(), sequence]
}

pub(super) fn apply_changes(
    transaction: &WriteTransaction,
    changes: &[Change],
) -> Result<(), Trouble> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut records = transaction.open_table(RECORDS)?;
    let mut meta = transaction.open_table(META)?;
    let mut total = number(&meta, META_RECORDS)?.unwrap_or(0);
    for change in changes {
        let before = match change {
            Change::Put { key, value } => {
                let sealed = checksum::seal(RECORDS_NAME, &[key.as_bytes()], value);
                total = total.wrapping_add(share(&sealed));
                records.insert(key.as_str(), sealed.as_slice())?
            }
            Change::Delete { key } => records.remove(key.as_str())?,
        };
        if let Some(before) = before {
            total = total.wrapping_sub(share(before.value()));
        }
    }
    set_number(&mut meta, META_RECORDS, total)
}

pub(super) fn apply_appends(
    transaction: &WriteTransaction,
    appends: &[Append],
) -> Result<(), Trouble> {
    if appends.is_empty() {
        return Ok(());
    }
    let mut items = transaction.open_table(ITEMS)?;
    let mut bounds = transaction.open_table(BOUNDS)?;
    for append in appends {
        let name = append.series.to_string();
        let (mut lowest, mut next) = bounds_of(&bounds, &name)?;
        for value in &append.values {
            put_item(&mut items, &name, next, value)?;
            next += 1;
        }
        while next - lowest > append.series.kind.limit() {
            items.remove((name.as_str(), lowest))?;
            lowest += 1;
        }
        set_bounds(&mut bounds, &name, lowest, next)?;
    }
    Ok(())
}

fn put_item(
    items: &mut Table<'_, (&'static str, u64), &'static [u8]>,
    series: &str,
    sequence: u64,
    value: &[u8],
) -> Result<(), Trouble> {
    let sealed = checksum::seal(
        ITEMS_NAME,
        &item_key(series, &sequence.to_le_bytes()),
        value,
    );
    items.insert((series, sequence), sealed.as_slice())?;
    Ok(())
}

/// Removes up to [`MAX_DROPPED`] items of a job; whether there may be more.
pub(super) fn drop_some(transaction: &WriteTransaction, job: &JobId) -> Result<bool, Trouble> {
    let mut items = transaction.open_table(ITEMS)?;
    let mut bounds = transaction.open_table(BOUNDS)?;
    let mut left = MAX_DROPPED;
    for kind in SeriesKind::ALL {
        let prefix = format!("{}/{job}/", kind.name());
        loop {
            let first = bounds.range(prefix.as_str()..)?.next().transpose()?;
            let first = first.map(|(name, stored)| (name.value().to_owned(), stored.value()));
            let Some((name, stored)) = first.filter(|(name, _)| name.starts_with(&prefix)) else {
                break;
            };
            let (lowest, next) = bound(&name, stored)?;
            let end = next.min(lowest.saturating_add(left as u64));
            for number in lowest..end {
                items.remove((name.as_str(), number))?;
            }
            left -= usize::try_from(end - lowest).unwrap_or(left);
            if end < next {
                set_bounds(&mut bounds, &name, end, next)?;
                return Ok(true);
            }
            bounds.remove(name.as_str())?;
        }
    }
    Ok(false)
}

/// The tables of the first format, which had no checksums, and how they become those above.
pub(super) mod first {
    use redb::TableHandle;

    use super::*;

    const RECORDS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("records");
    const ITEMS: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("items");
    const BOUNDS: TableDefinition<'static, &str, (u64, u64)> = TableDefinition::new("bounds");

    /// Whether there is anything of it.
    pub(in super::super) fn is_there(transaction: &ReadTransaction) -> Result<bool, Trouble> {
        let old = [RECORDS.name(), ITEMS.name(), BOUNDS.name()];
        let mut tables = transaction.list_tables()?;
        Ok(tables.any(|table| old.contains(&table.name())))
    }

    /// Moves up to `most` entries; whether there may be more. Once there are none the tables are gone.
    pub(in super::super) fn upgrade_some(
        transaction: &WriteTransaction,
        most: usize,
    ) -> Result<bool, Trouble> {
        let moved = move_records(transaction, most)?;
        let moved = moved + move_items(transaction, most - moved)?;
        let moved = moved + move_bounds(transaction, most - moved)?;
        if moved == most {
            return Ok(true);
        }
        transaction.delete_table(RECORDS)?;
        transaction.delete_table(ITEMS)?;
        transaction.delete_table(BOUNDS)?;
        Ok(false)
    }

    fn move_records(transaction: &WriteTransaction, most: usize) -> Result<usize, Trouble> {
        let mut changes = Vec::new();
        {
            let mut old = transaction.open_table(RECORDS)?;
            while changes.len() < most
                && let Some((key, value)) = old.pop_first()?
            {
                changes.push(Change::Put {
                    key: key.value().to_owned(),
                    value: value.value().to_owned(),
                });
            }
        }
        apply_changes(transaction, &changes)?;
        Ok(changes.len())
    }

    fn move_items(transaction: &WriteTransaction, most: usize) -> Result<usize, Trouble> {
        let mut old = transaction.open_table(ITEMS)?;
        let mut items = transaction.open_table(super::ITEMS)?;
        let mut moved = 0;
        while moved < most
            && let Some((key, value)) = old.pop_first()?
        {
            let (series, sequence) = key.value();
            put_item(&mut items, series, sequence, value.value())?;
            moved += 1;
        }
        Ok(moved)
    }

    fn move_bounds(transaction: &WriteTransaction, most: usize) -> Result<usize, Trouble> {
        let mut old = transaction.open_table(BOUNDS)?;
        let mut bounds = transaction.open_table(super::BOUNDS)?;
        let mut moved = 0;
        while moved < most
            && let Some((series, bound)) = old.pop_first()?
        {
            let (lowest, next) = bound.value();
            set_bounds(&mut bounds, series.value(), lowest, next)?;
            moved += 1;
        }
        Ok(moved)
    }

    /// Writes what a program of the first format would.
    #[cfg(test)]
    pub(in super::super) fn write(
        transaction: &WriteTransaction,
        records: &[(&str, &[u8])],
        series: &str,
        lowest: u64,
        items: &[&[u8]],
    ) -> Result<(), Trouble> {
        for (key, value) in records {
            transaction.open_table(RECORDS)?.insert(*key, *value)?;
        }
        let next = lowest + items.len() as u64;
        for (sequence, value) in (lowest..).zip(items) {
            transaction
                .open_table(ITEMS)?
                .insert((series, sequence), *value)?;
        }
        transaction
            .open_table(BOUNDS)?
            .insert(series, (lowest, next))?;
        Ok(())
    }
}
