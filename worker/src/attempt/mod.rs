//! One attempt at running a trial, as every part of a worker speaks of it: its key, how it is told to
//! stop, what it shows of its progress, and its end. Knows nothing of what runs it.

mod activity;
mod end;
mod key;
mod mask;
mod stop;

pub(crate) use activity::Activity;
pub(crate) use end::End;
pub(crate) use key::AttemptKey;
pub(crate) use mask::Mask;
pub(crate) use stop::{Stop, StopSignal};
