//! A network's layers with their shapes and parameter counts, as a table.

use std::fmt;

use super::error::show;
use super::graph::{Graph, Row};

/// A network whose layers fit each other. `Display` prints it as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    pub sample_shape: Vec<usize>,
    pub rows: Vec<Row>,
    output_shape: Vec<usize>,
}

impl Graph {
    pub fn summary(&self) -> ModelSummary {
        ModelSummary {
            sample_shape: self.sample_shape.clone(),
            rows: self.rows.clone(),
            output_shape: self.output.shape.clone(),
        }
    }
}

impl ModelSummary {
    /// Shape of what the network puts out for one sample.
    pub fn output_shape(&self) -> &[usize] {
        &self.output_shape
    }

    /// Numbers that training changes by gradients.
    pub fn trainable(&self) -> usize {
        self.rows.iter().map(|row| row.parameters).sum()
    }

    /// Running statistics.
    pub fn non_trainable(&self) -> usize {
        self.rows.iter().map(|row| row.non_trainable).sum()
    }
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes: Vec<String> = self
            .rows
            .iter()
            .map(|row| show(&row.output_shape))
            .collect();
        let width = shapes.iter().map(String::len).max().unwrap_or(0).max(12);
        let names = self.rows.iter().map(|row| row.layer.len());
        let name = names.max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:>name$}  {:<12}  {:<width$}  {:>13}",
            "layer", "type", "output shape", "parameters"
        )?;
        writeln!(
            f,
            "{:>name$}  {:<12}  {:<width$}  {:>13}",
            "",
            "input",
            show(&self.sample_shape),
            0
        )?;
        for (row, shape) in self.rows.iter().zip(&shapes) {
            writeln!(
                f,
                "{:>name$}  {:<12}  {:<width$}  {:>13}",
                row.layer,
                row.name,
                shape,
                grouped(row.parameters + row.non_trainable)
            )?;
        }
        let (trainable, fixed) = (self.trainable(), self.non_trainable());
        writeln!(f, "total parameters: {}", grouped(trainable + fixed))?;
        writeln!(f, "trainable: {}", grouped(trainable))?;
        write!(f, "non-trainable: {}", grouped(fixed))
    }
}

/// `1,552,746`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
