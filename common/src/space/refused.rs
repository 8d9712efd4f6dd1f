//! What new specs may not have, though a space can be made of it: what was accepted before it was refused is still read.

use super::SearchSpace;
use crate::spec::error::{SpecError, quoted};

impl SearchSpace {
    /// Ranges that are wider than a number can be. Not part of [`Self::new`], which reads what was accepted before
    /// they were refused.
    pub(crate) fn overflowing(&self) -> impl Iterator<Item = SpecError> {
        let wide = self
            .parameters
            .iter()
            .filter(|known| known.domain.overflows());
        wide.map(|parameter| {
            SpecError::new(
                format!("hyperparameters.{}.maxval", parameter.name),
                format!(
                    "maxval - minval is more than a number can hold; accepted are ranges up to {:e} wide",
                    f64::MAX
                ),
            )
        })
    }

    /// Constraints that no draw meets but by chance: equalities that change with a continuous hyperparameter. Not part
    /// of [`Self::constrained`], as above.
    pub(crate) fn unmeetable(&self) -> impl Iterator<Item = SpecError> {
        let continuous = |axis: usize| self.parameters[axis].domain.cardinality().is_none();
        let constraints = self.constraints.iter().enumerate();
        let unmeetable = constraints.filter(move |(_, constraint)| constraint.equates(&continuous));
        unmeetable.map(|(index, constraint)| {
            SpecError::new(
                format!("constraints[{index}]"),
                format!(
                    "`{}`: an equality with a double that has no `step` is met by chance alone; accepted are a `step`, \
                     a range such as `abs(a - b) <= 0.01`, or one hyperparameter less, which the program \
                     works out from the others (`a + b <= 1` instead of `a + b + c == 1`)",
                    quoted(constraint.text())
                ),
            )
        })
    }
}
