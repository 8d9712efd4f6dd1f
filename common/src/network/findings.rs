//! What is wrong with the numbers of layers, each with its place in the document.

use std::fmt::Display;

use super::range::Range;

/// Problems of fields; shapes are another matter.
#[derive(Debug, Default)]
pub struct Findings(Vec<(String, String)>);

impl Findings {
    /// `path`: the place in the document, such as `model.layers[2].dropout.rate`.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    /// Adds a problem unless `fits`.
    pub fn expect(
        &mut self,
        fits: bool,
        path: impl Into<String>,
        given: impl Display,
        accepted: &str,
    ) {
        if !fits {
            self.add(path, format!("{given} given; accepted: {accepted}"));
        }
    }

    /// In [0, 1).
    pub fn share(&mut self, value: f64, path: impl Into<String>) {
        self.range(value, path, Range::Share);
    }

    pub fn positive(&mut self, value: f64, path: impl Into<String>) {
        self.range(value, path, Range::Positive);
    }

    pub fn not_negative(&mut self, value: f64, path: impl Into<String>) {
        self.range(value, path, Range::NotNegative);
    }

    pub fn at_least_one(&mut self, value: usize, path: impl Into<String>) {
        let range = Range::Count;
        self.expect(range.holds(value as f64), path, value, range.words());
    }

    fn range(&mut self, value: f64, path: impl Into<String>, range: Range) {
        self.expect(range.holds(value), path, value, range.words());
    }

    /// (path, message), in the order in which they were found.
    pub fn into_inner(self) -> Vec<(String, String)> {
        self.0
    }
}
