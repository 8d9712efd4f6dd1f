//! Series in immutable objects: what is in one, which ones count, and where they lie.
//!
//! | file | owns |
//! |---|---|
//! | `format` | the bytes of an object and of the key that names it (pure) |
//! | `index` | which object holds which items (pure) |
//! | `objects` | the object store: conditional create, verified reads, a bounded cache |
//! | `upkeep` | compaction and the collecting of objects that nothing names |

mod format;
mod index;
mod objects;
mod upkeep;

pub(super) use format::{Meta, Packed, Packer, SegmentId};
pub(super) use index::{Index, Piece};
pub(super) use objects::{Objects, ReadError};
pub(super) use upkeep::{MAX_INPUTS, compact};
