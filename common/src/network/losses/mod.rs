//! Losses: the fields of each, one file for each, and their list.
//!
//! Adding one takes its file here, a line in each of the lists below, and the file of its kernel with a line in the
//! list of `trainyard-network` (`losses`). Schema, checks, messages, the table of the reference page and
//! hyperparameters follow from the fields.

mod binary_cross_entropy;
mod cross_entropy;
mod huber;
mod mae;
mod mse;

use super::findings::Findings;
use super::output::Trailing;
use crate::listed::listed;

/// What targets a loss is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A class number a sample.
    Classes,
    /// Numbers.
    Values,
}

/// What is asked of every loss's fields.
trait Fields {
    const TAKES: Takes;
    /// The function at the end of a network that the loss applies itself, exactly.
    const FOLDS: Trailing = Trailing::Other;

    /// Checks its fields, which lie below `path`.
    fn check(&self, path: &str, found: &mut Findings) {
        let _ = (path, found);
    }
}

/// [`Fields`] of a loss that is known at run time only.
trait AnyLoss {
    fn check(&self, path: &str, found: &mut Findings);
}

impl<L: Fields> AnyLoss for L {
    fn check(&self, path: &str, found: &mut Findings) {
        Fields::check(self, path, found);
    }
}

/// What a word among losses means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) word: &'static str,
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
                takes: <$fields as Fields>::TAKES,
                folds: <$fields as Fields>::FOLDS,
            }),+];
        }
    };
}

losses! {
    cross_entropy: CrossEntropy(CrossEntropySpec),
    binary_cross_entropy: BinaryCrossEntropy(BinaryCrossEntropySpec),
    mse: Mse(MseSpec),
    mae: Mae(MaeSpec),
    huber: Huber(HuberSpec),
}

impl Loss {
    pub(crate) fn kind(&self) -> &'static Kind {
        let name = self.name();
        // The list has every word.
        let at = Self::KINDS.iter().position(|kind| kind.word == name);
        &Self::KINDS[at.unwrap_or(0)]
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
}
