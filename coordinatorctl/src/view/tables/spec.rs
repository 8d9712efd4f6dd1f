//! Tables of what a spec leads to: configurations, a network, a replayed search.

use std::fmt::Write as _;

use comfy_table::CellAlignment;

use super::parts::{
    finish, parameter_cells, parameter_header, parameter_names, table, with_header,
};
use crate::view::output::{Configuration, ModelSummary, Preview, Replayed};
use crate::view::text;

pub(crate) fn replayed(replayed: &Replayed) -> String {
    let mut told = String::new();
    for (index, entry) in replayed.log.iter().flatten().enumerate() {
        let _ = writeln!(told, "{index:>6}  {entry}");
    }
    let job = &replayed.job_id;
    let _ = match &replayed.difference {
        Some(difference) => write!(told, "{job} is decided otherwise: {difference}"),
        None => {
            let parts = [
                (replayed.suggestions, "suggestions"),
                (replayed.results, "results"),
                (replayed.rungs, "results at rungs"),
                (replayed.promotions, "promotions"),
                (replayed.extensions, "extensions"),
            ];
            let parts = parts.iter().filter(|(count, _)| *count > 0);
            let parts: Vec<_> = parts.map(|(count, of)| format!("{count} {of}")).collect();
            write!(
                told,
                "{job} is decided in the same way: {}",
                parts.join(", ")
            )
        }
    };
    told
}

pub(crate) fn preview(preview: &Preview) -> String {
    let rows = &preview.configurations;
    let names = parameter_names(rows.iter().map(|row| &row.params));
    let mut header = vec!["TRIAL".to_owned()];
    header.extend(parameter_header(&names));
    let mut table = with_header(&header);
    for Configuration { trial_id, params } in rows {
        let mut row = vec![trial_id.to_string()];
        row.extend(parameter_cells(&names, params));
        table.add_row(row);
    }
    let mut text = finish(&table);
    if let Some(expected) = preview.trials_expected {
        let _ = write!(text, "\n{} of {expected} configurations", rows.len());
    }
    if let Some(share) = preview.allowed_share {
        let _ = write!(text, "\n{}", text::allowed(share));
    }
    text
}

pub(crate) fn model(summary: &ModelSummary) -> String {
    let mut table = table(["LAYER", "OUTPUT SHAPE", "PARAMETERS"]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_row([
        "input".to_owned(),
        text::shape(&summary.input_shape),
        "0".to_owned(),
    ]);
    for layer in &summary.layers {
        table.add_row([
            format!("{}{}.{}", "  ".repeat(layer.depth), layer.layer, layer.name),
            text::shape(&layer.output_shape),
            text::grouped(layer.parameters + layer.non_trainable),
        ]);
    }
    let frozen = match summary.frozen {
        0 => String::new(),
        frozen => format!("\nfrozen:        {}", text::grouped(frozen)),
    };
    format!(
        "{}\n\ntotal:         {}\ntrainable:     {}{frozen}\nnon-trainable: {}",
        finish(&table),
        text::grouped(summary.parameters + summary.frozen + summary.non_trainable),
        text::grouped(summary.parameters),
        text::grouped(summary.non_trainable),
    )
}

/// Every parameter, and what becomes of it.
pub(crate) fn tensors(summary: &ModelSummary) -> String {
    let mut table = table(["PARAMETER", "SHAPE", "TRAINED"]);
    for tensor in &summary.tensors {
        let trained = match (tensor.frozen, tensor.learning_rate) {
            (true, _) => "frozen".to_owned(),
            (false, Some(rate)) => format!("at {rate}"),
            (false, None) => "yes".to_owned(),
        };
        table.add_row([tensor.name.clone(), text::shape(&tensor.shape), trained]);
    }
    format!("\n{}", finish(&table))
}
