//! Losses: the fields of each, one file for each, and their list.
//!
//! Adding one takes its file here, a line in each of the lists below, and the file of its kernel with a line in the
//! list of `trainyard-network` (`losses`). Schema, checks, hints for words of other systems, the table of the reference
//! page and hyperparameters follow from the fields.

mod binary_cross_entropy;
mod binary_focal;
mod categorical_focal;
mod categorical_hinge;
mod cosine_similarity;
mod cross_entropy;
mod dice;
mod hinge;
mod huber;
mod jaccard;
mod kl_divergence;
mod log_cosh;
mod mae;
mod mape;
mod mse;
mod msle;
mod output;
mod poisson;
mod quantile;
mod squared_hinge;
mod tversky;

use super::findings::Findings;
use super::output::Trailing;
use crate::listed::listed;

pub use output::TargetKind;

/// What targets a document may give a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A class number a sample.
    Classes,
    /// Numbers.
    Values,
    Both,
}

impl Takes {
    pub fn classes(self) -> bool {
        self != Self::Values
    }

    pub fn values(self) -> bool {
        self != Self::Classes
    }
}

/// What is asked of every loss's fields.
trait Fields {
    /// What other systems call it, in lower case without `_` and `-`.
    const ALSO: &'static [&'static str];
    const TAKES: Takes;
    /// The function at the end of a network that the loss applies itself, exactly.
    const FOLDS: Trailing = Trailing::Other;

    /// Checks its fields, which lie below `path`.
    fn check(&self, path: &str, found: &mut Findings) {
        let _ = (path, found);
    }

    /// Whether what a network puts out for a sample goes with the targets.
    ///
    /// # Errors
    /// What is needed, in words.
    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::each(output, targets)
    }
}

/// [`Fields`] of a loss that is known at run time only.
trait AnyLoss {
    fn check(&self, path: &str, found: &mut Findings);
    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String>;
}

impl<L: Fields> AnyLoss for L {
    fn check(&self, path: &str, found: &mut Findings) {
        Fields::check(self, path, found);
    }

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        Fields::fits(self, output, targets)
    }
}

/// What a word among losses means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) word: &'static str,
    pub(crate) also: &'static [&'static str],
    pub(crate) takes: Takes,
    folds: Trailing,
}

/// The enum, and of each word what its type says.
macro_rules! losses {
    ($($module:ident: $variant:ident($fields:ident),)+) => {
        listed! {
            /// What is minimized: the mean of it over the samples.
            Loss: dyn AnyLoss { $($module: $variant($fields),)+ }
        }

        impl Loss {
            /// In the order of the list.
            pub(crate) const KINDS: &[Kind] = &[$(Kind {
                word: stringify!($module),
                also: <$fields as Fields>::ALSO,
                takes: <$fields as Fields>::TAKES,
                folds: <$fields as Fields>::FOLDS,
            }),+];
        }
    };
}

losses! {
    cross_entropy: CrossEntropy(CrossEntropySpec),
    binary_cross_entropy: BinaryCrossEntropy(BinaryCrossEntropySpec),
    categorical_focal: CategoricalFocal(CategoricalFocalSpec),
    binary_focal: BinaryFocal(BinaryFocalSpec),
    kl_divergence: KlDivergence(KlDivergenceSpec),
    categorical_hinge: CategoricalHinge(CategoricalHingeSpec),
    hinge: Hinge(HingeSpec),
    squared_hinge: SquaredHinge(SquaredHingeSpec),
    mse: Mse(MseSpec),
    mae: Mae(MaeSpec),
    huber: Huber(HuberSpec),
    log_cosh: LogCosh(LogCoshSpec),
    msle: Msle(MsleSpec),
    mape: Mape(MapeSpec),
    quantile: Quantile(QuantileSpec),
    poisson: Poisson(PoissonSpec),
    cosine_similarity: CosineSimilarity(CosineSimilaritySpec),
    dice: Dice(DiceSpec),
    jaccard: Jaccard(JaccardSpec),
    tversky: Tversky(TverskySpec),
}

impl Loss {
    pub(crate) fn kind(&self) -> &'static Kind {
        let name = self.name();
        // The list has every word.
        let at = Self::KINDS.iter().position(|kind| kind.word == name);
        &Self::KINDS[at.unwrap_or(0)]
    }

    pub fn takes(&self) -> Takes {
        self.kind().takes
    }

    /// Whether the loss applies this function itself, where a network ends in it.
    pub fn folds(&self, trailing: Trailing) -> bool {
        trailing != Trailing::Other && self.kind().folds == trailing
    }

    /// Checks its fields, which lie below `path`.
    pub fn check(&self, path: &str, found: &mut Findings) {
        self.fields()
            .check(&format!("{path}.{}", self.name()), found);
    }

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        self.fields().fits(output, targets)
    }
}

/// A number that lies between 0 and 1.
fn inner(value: f64, path: &str, field: &str, found: &mut Findings) {
    let path = format!("{path}.{field}");
    let fits = value > 0.0 && value < 1.0;
    found.expect(fits, path, value, "numbers above 0, below 1");
}

#[cfg(test)]
mod tests;
