//! Tables of a search as a whole: forecast and found out.

use std::fmt::Write as _;

use comfy_table::CellAlignment;
use serde_json::Value;

use super::parts::{finish, table};
use crate::view::output::{Dependence, Insight, SearchForecast};
use crate::view::text;

/// Improvements that are shown, the newest.
const HISTORY: usize = 20;

pub(crate) fn forecast(forecast: &SearchForecast) -> String {
    let mut table = table(["EPOCHS", "REACHED BY", "ENDED THERE"]);
    for rung in &forecast.rungs {
        table.add_row([rung.epochs, u64::from(rung.reached), u64::from(rung.ended)]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let duration = |seconds: f64| text::duration((seconds * 1_000.0) as u64);
    let mut lines = finish(&table);
    let saved = 1.0 - forecast.epochs as f64 / forecast.epochs_without_stopping.max(1) as f64;
    let _ = write!(
        lines,
        "\n\n{} trials, {} epochs ({:.0}% less than without stopping), {} of slots\nends after {}, slots {:.0}% busy",
        forecast.trials,
        text::grouped(forecast.epochs),
        saved * 100.0,
        duration(forecast.slot_seconds),
        duration(forecast.finish_seconds),
        forecast.busy * 100.0,
    );
    if forecast.cut {
        lines.push_str("\nthe search has no end of its own: cut off");
    }
    lines
}

/// Why a dependence does not go as far as the worst results do.
const CLIPPED: &str = "means of a model of the search; a result further from the median than three times what the \
                       best is counts as that far, so that one bad trial does not hide the rest";

pub(crate) fn insight(insight: &Insight) -> String {
    let mut parts = vec![history(insight)];
    if insight.importance.is_empty() {
        parts.push(format!(
            "{} trials with a value: too few to tell which hyperparameters matter",
            insight.trials
        ));
    } else {
        parts.push(importance(insight));
    }
    parts.extend(insight.dependence.iter().map(dependence));
    if !insight.dependence.is_empty() {
        parts.push(CLIPPED.to_owned());
    }
    if !insight.front.is_empty() {
        parts.push(front(insight));
    }
    parts.join("\n\n")
}

fn history(insight: &Insight) -> String {
    let objective = insight
        .objectives
        .first()
        .map_or("objective", String::as_str);
    let mut table = table(["TRIAL", &format!("BEST {objective}")]);
    let skipped = insight.history.len().saturating_sub(HISTORY);
    for best in insight.history.iter().skip(skipped) {
        table.add_row([best.trial_id.to_string(), text::number(best.value)]);
    }
    finish(&table)
}

fn importance(insight: &Insight) -> String {
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    let mut table = table(["HYPERPARAMETER", "IMPORTANCE", "+-"]);
    for of in &insight.importance {
        table.add_row([of.parameter.clone(), percent(of.share), percent(of.spread)]);
    }
    for pair in &insight.interactions {
        let [first, second] = &pair.parameters;
        table.add_row([
            format!("{first} x {second}"),
            percent(pair.share),
            String::new(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(&table)
}

fn dependence(of: &Dependence) -> String {
    let mut table = table([of.parameter.as_str(), "OBJECTIVE", "+-"]);
    for ((value, mean), spread) in of.values.iter().zip(&of.mean).zip(&of.spread) {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number
                .as_f64()
                .map_or_else(|| number.to_string(), text::number),
            other => other.to_string(),
        };
        table.add_row([value, text::number(*mean), text::number(*spread)]);
    }
    finish(&table)
}

fn front(insight: &Insight) -> String {
    let mut header = vec!["ON THE FRONT"];
    header.extend(insight.objectives.iter().map(String::as_str));
    let mut table = super::parts::with_header(&header);
    for (trial, values) in &insight.front {
        let mut row = vec![trial.to_string()];
        row.extend(values.iter().map(|value| text::number(*value)));
        table.add_row(row);
    }
    let mut lines = finish(&table);
    if let Some(last) = insight.hypervolume.last() {
        let reference: Vec<String> = insight.reference.iter().map(|x| text::number(*x)).collect();
        let _ = write!(
            lines,
            "\nhypervolume {} (from {})",
            text::number(last.value),
            reference.join(", ")
        );
    }
    lines
}
