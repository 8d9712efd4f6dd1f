//! What the machine consists of: parts that keep their own fields consistent, and know nothing of it.

mod aside;
mod graces;
mod identities;
mod jobs;
mod kept;
mod removal;
pub(super) mod requests;
mod retention;
mod slots;
mod waits;
mod workers;

pub(in crate::cluster) use aside::{Aside, SetAside};
pub(in crate::cluster) use graces::Graces;
pub(in crate::cluster) use identities::{Identities, same};
pub(in crate::cluster) use jobs::Jobs;
pub(in crate::cluster) use kept::{Cause, Kept};
pub(in crate::cluster) use removal::{Keeping, Removal, Task};
pub(in crate::cluster) use requests::Requests;
pub(in crate::cluster) use retention::Retention;
pub(in crate::cluster) use slots::{Account, Slots};
pub(in crate::cluster) use waits::Waits;
pub(in crate::cluster) use workers::Workers;
