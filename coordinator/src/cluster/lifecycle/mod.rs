//! How jobs, trials and attempts live and end.
//!
//! | file | owns |
//! |---|---|
//! | `requests` | each request id acts once |
//! | `submit`, `extend`, `pause`, `retry` | what people ask for: jobs, their end; more trials or time; what is held and let go; failed trials tried again |
//! | `bundles` | where the code lies that jobs have shipped, and whether a job still needs it |
//! | `reports`, `points` | counting what workers tell: each report once; what counts of a learning curve |
//! | `repeated`, `remarks` | what is reported once more, and which objective does not come, told to people |
//! | `attempts`, `vacate` | how attempts end; slots asked back |
//! | `conclude` | what an attempt's end leads to: the order failure, finish, rung |
//! | `failures`, `losses`, `alike` | what a failed attempt means by the spec's policy; trials that all fail in one way |
//! | `trials`, `best` | one trial's state; the best of them |
//! | `search`, `judging`, `ending` | how searches and jobs end, the winner's judging, trials with what ends with them |
//! | `stopping`, `rungs`, `suggest` | who has had its chance; what schedulers and searchers decide, carried out |
//! | `thinking` | what searchers compute beside the loop |
//! | `stints`, `logical` | searches in logical time |
//! | `active`, `job` | jobs that have not ended; what a job alone tells |

mod active;
mod alike;
pub(super) mod attempts;
pub(super) mod best;
mod bundles;
mod choosing;
mod computing;
mod conclude;
mod ending;
mod extend;
mod failures;
mod job;
mod judging;
mod logical;
pub(super) mod losses;
mod pause;
mod points;
mod remarks;
mod repeated;
mod reports;
pub(super) mod requests;
mod retry;
mod rungs;
mod search;
mod stints;
mod stopping;
mod submit;
pub(super) mod suggest;
mod thinking;
mod trials;
mod vacate;
