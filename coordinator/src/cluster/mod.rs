//! The one state machine: jobs, trials, attempts and workers.
//!
//! `apply(now, event)` decides; it owns no socket, store, clock or random source. The driver persists
//! what a step says before it performs the step's effects.
//!
//! | room | owns |
//! |---|---|
//! | `model` | jobs, trials, attempts, workers: what is persisted, under which key, and what is held in memory |
//! | `api` | what goes in and out: events, steps, effects, rejections, messages, answers |
//! | `parts` | what the machine consists of: each part keeps its own fields consistent |
//! | `machine`, `draft`, `said` | the parts together; what a turn has changed, and what it says |
//! | `lookup` | attempts and trials by their names |
//! | `turn`, `deadlines` | one event in, one step out; when to be woken, and what to do then |
//! | `lifecycle` | what people ask of jobs, what workers report, how attempts, trials, searches and jobs end |
//! | `placing` | giving free slots to trials, keeping slots, asking for them; workspaces' shares |
//! | `fleet` | workers: sessions, leases, re-attachment, proofs of stores; hung, silent and slow told apart |
//! | `leaving` | ended jobs into archives, and out of the records |
//! | `view` | answers to questions, a search log replayed |
//! | `restore` | the machine from its records |

pub mod api;
mod deadlines;
mod draft;
mod fleet;
mod leaving;
mod lifecycle;
mod lookup;
mod machine;
pub mod model;
mod parts;
mod placing;
mod restore;
mod said;
#[cfg(test)]
mod tests;
mod turn;
pub mod view;

pub use machine::Machine;
pub use restore::RestoreError;
