//! How jobs, trials and attempts live and end.
//!
//! | file | owns |
//! |---|---|
//! | `submit`, `extend`, `pause` | what people ask for: jobs, their end; more trials or time; what is held and let go |
//! | `reports` | counting what workers tell |
//! | `attempts`, `failures`, `finish` | how attempts, trials, searches and jobs end; what a failed attempt leads to |
//! | `rungs` | what schedulers decide, carried out |
//! | `logical` | searches in logical time |

pub(super) mod attempts;
mod extend;
pub(super) mod failures;
pub(super) mod finish;
mod logical;
mod pause;
mod reports;
mod rungs;
pub(super) mod submit;
