//! What tables and descriptions are made of: columns, fields, metrics, hyperparameters.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::view::output::Metrics;
use crate::view::text;

/// Hyperparameters get a column each up to this many; beyond, they share one.
pub(super) const PARAMETER_COLUMNS: usize = 6;

pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    with_header(&header)
}

pub(super) fn with_header(header: &[impl AsRef<str>]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    if let Some(columns) = columns(table.width()) {
        table.set_width(columns);
    }
    table
}

/// The width of a terminal that does not know its own, as `script` and some CI have: 80, not 0.
fn columns(reported: Option<u16>) -> Option<u16> {
    reported.filter(|columns| *columns == 0).map(|_| 80)
}

/// Lines without the blanks that fill up the last column.
pub(super) fn finish(table: &Table) -> String {
    table
        .lines()
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn field(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(text, "{:<21}{value}", format!("{name}:"));
    }
}

/// `loss=0.1 accuracy=0.98`.
pub(crate) fn metrics(metrics: &Metrics) -> String {
    let mut line = String::new();
    for (name, value) in metrics {
        let gap = if line.is_empty() { "" } else { " " };
        let value = value
            .as_f64()
            .map_or_else(|| "nan".to_owned(), text::number);
        let _ = write!(line, "{gap}{name}={value}");
    }
    line
}

/// Names of all hyperparameters among the configurations, in the order of appearance.
pub(super) fn parameter_names<'a>(params: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in params
        .filter_map(Value::as_object)
        .flat_map(|map| map.keys())
    {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The columns of a configuration, one each or all in one.
pub(super) fn parameter_cells(names: &[String], params: &Value) -> Vec<String> {
    if names.len() > PARAMETER_COLUMNS {
        return vec![text::pairs(params)];
    }
    let cell = |name: &String| params.get(name).map_or_else(|| "-".to_owned(), text::value);
    names.iter().map(cell).collect()
}

pub(super) fn parameter_header(names: &[String]) -> Vec<String> {
    if names.len() > PARAMETER_COLUMNS {
        vec!["PARAMETERS".to_owned()]
    } else {
        names.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_without_columns_has_eighty() {
        assert_eq!(columns(Some(0)), Some(80));
        assert_eq!((columns(Some(7)), columns(None)), (None, None));
        let mut table = with_header(&["A", "B"]);
        table.set_width(columns(Some(0)).unwrap());
        table.add_row(["one value", "and another"]);
        assert_eq!(finish(&table).lines().count(), 2);
    }
}
