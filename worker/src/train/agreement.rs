//! Whether the ranks of a group are about to train on the same data.

use super::TrainError;
use crate::collective::Group;

/// Hexadecimal digits of a digest that a message shows.
const DIGITS_SHOWN: usize = 16;

/// Every rank must call it, and each gets the same answer. `digest` is of this rank's dataset; `data`
/// says where that lies.
///
/// # Errors
/// `MixedData` with the first rank that differs from rank 0; `Collective`.
pub(crate) fn same_data(
    group: &mut dyn Group,
    digest: &blake3::Hash,
    data: &str,
) -> Result<(), TrainError> {
    let digests = group.all_gather(digest.as_bytes())?;
    let differs = digests.iter().position(|digest| *digest != digests[0]);
    match differs {
        None => Ok(()),
        Some(rank) => Err(TrainError::MixedData {
            rank,
            data: data.to_owned(),
            theirs: hexadecimal(&digests[rank]),
            zeros: hexadecimal(&digests[0]),
        }),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    shortened(&digits.collect::<String>())
}

pub(crate) fn shortened(digest: &str) -> String {
    digest.chars().take(DIGITS_SHOWN).collect()
}
