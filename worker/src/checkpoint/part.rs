//! What a part of a checkpoint is: so many bytes under their digest.

/// Large enough that requests do not dominate, small enough that a few in memory do not matter.
pub(super) const PART_BYTES: usize = 8 << 20;
/// A part is read into memory whole. Eight times what this program writes, so that another version may
/// write larger ones.
pub(super) const MAX_PART_BYTES: u64 = 8 * PART_BYTES as u64;

/// BLAKE3, hexadecimal: the name of a part.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
