//! Whether what a network puts out goes with a loss and its targets: asked before the data are known and after.

use super::Loss;
use crate::network::error::{LayerError, Problem};
use crate::network::graph::Graph;
use crate::network::output::Trailing;

/// What is known of the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A class number a sample, of so many classes.
    Classes(Option<usize>),
    /// So many numbers a sample.
    Values(Option<usize>),
}

impl Graph {
    /// Whether the loss can be computed from what the network puts out.
    ///
    /// # Errors
    /// Names the layer whose output it is, what it puts out and what is needed.
    pub fn check_output(&self, loss: &Loss, targets: TargetKind) -> Result<(), Box<LayerError>> {
        let (output, trailing) = (&self.output.shape[..], self.trailing());
        let problem = if let Err(needed) = loss.fits(output, targets) {
            Problem::Output {
                got: output.to_vec(),
                loss: loss.name(),
                needed,
            }
        } else if trailing == Trailing::Softmax && output == [1] {
            Problem::other(
                "a softmax over one output is 1 always; accepted: a sigmoid, or more outputs",
            )
        } else if trailing == Trailing::Softmax && output.len() > 1 && loss.folds(trailing) {
            Problem::Other(format!(
                "ends in a softmax over the last dimension of {output:?}, where {} applies one over the first itself; \
                 leave the softmax away",
                loss.name()
            ))
        } else if loss.folds(trailing) && self.masks_output() {
            Problem::Output {
                got: output.to_vec(),
                loss: loss.name(),
                needed: "probabilities as they are: a dropout after a softmax or sigmoid would set some of them to 0; \
                         put it before the last dense layer"
                    .to_owned(),
            }
        } else {
            return Ok(());
        };
        let row = &self.rows[self.last_row];
        Err(Box::new(LayerError {
            layer: row.layer.clone(),
            name: row.name,
            path: row.path.clone(),
            problem,
        }))
    }
}

/// One output for each class, or for each number of the targets, in whatever shape.
pub(super) fn each(output: &[usize], targets: TargetKind) -> Result<(), String> {
    match targets {
        TargetKind::Classes(Some(classes)) if output != [classes] => Err(format!("[{classes}]")),
        TargetKind::Classes(None) if output.len() != 1 => Err("[classes]".to_owned()),
        TargetKind::Values(Some(width)) if len(output) != width => {
            let or = match width {
                1 => String::new(),
                _ => format!(" or another shape of {width} numbers"),
            };
            Err(format!("[{width}]{or}"))
        }
        _ => Ok(()),
    }
}

/// As [`each`]; two classes may be told apart by one output.
pub(super) fn labels(output: &[usize], targets: TargetKind) -> Result<(), String> {
    match targets {
        TargetKind::Classes(Some(2)) if output == [1] => Ok(()),
        TargetKind::Classes(Some(2)) => each(output, targets).map_err(|_| "[1] or [2]".to_owned()),
        TargetKind::Classes(Some(_)) if output == [1] => each(output, targets).map_err(|needed| {
            format!("{needed}; one output tells two classes apart, more go with `loss: cross_entropy` too")
        }),
        _ => each(output, targets),
    }
}

/// Two classes or more, which share a sample or, with more dimensions, each pixel. Targets are a class, for each pixel
/// a class, or for each output its share.
pub(super) fn classes(output: &[usize], targets: TargetKind) -> Result<(), String> {
    let (TargetKind::Values(Some(width)), [classes, positions @ ..]) = (targets, output) else {
        return match (targets, output) {
            (TargetKind::Classes(Some(2)), [1]) => Err(
                "[2]; one output, with a sigmoid, goes with `loss: binary_cross_entropy`"
                    .to_owned(),
            ),
            (TargetKind::Classes(classes), [1]) => Err(format!(
                "[{}]; where targets are numbers and no classes: `task: regression` (in `data`)",
                classes.map_or("classes".to_owned(), |classes| classes.to_string())
            )),
            _ => each(output, targets),
        };
    };
    let is_map = !positions.is_empty() && len(positions) == width;
    if *classes >= 2 && (is_map || len(output) == width) {
        return Ok(());
    }
    Err(format!(
        "as many numbers as the {width} of a target, or [classes, height, width] with a target for each pixel; two \
         classes or more"
    ))
}

/// As [`classes`] where targets are shares.
pub(super) fn shares(output: &[usize], targets: TargetKind) -> Result<(), String> {
    each(output, targets)?;
    match output.first() {
        Some(0 | 1) => Err("two classes or more".to_owned()),
        _ => Ok(()),
    }
}

/// As [`each`], two numbers or more.
pub(super) fn several(output: &[usize], targets: TargetKind) -> Result<(), String> {
    each(output, targets)?;
    match len(output) {
        0 | 1 => Err("two numbers or more".to_owned()),
        _ => Ok(()),
    }
}

fn len(shape: &[usize]) -> usize {
    shape.iter().product()
}
