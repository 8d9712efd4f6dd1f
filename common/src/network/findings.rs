//! What is wrong with the numbers of layers, each with its place in the document.

use std::fmt::Display;

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
        let fits = (0.0..1.0).contains(&value);
        self.expect(fits, path, value, "numbers from 0, below 1");
    }

    pub fn positive(&mut self, value: f64, path: impl Into<String>) {
        let fits = value > 0.0 && value.is_finite();
        self.expect(fits, path, value, "numbers above 0");
    }

    pub fn at_least_one(&mut self, value: usize, path: impl Into<String>) {
        self.expect(value > 0, path, value, "whole numbers from 1");
    }

    /// (path, message), in the order in which they were found.
    pub fn into_inner(self) -> Vec<(String, String)> {
        self.0
    }
}
