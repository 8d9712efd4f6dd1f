//! The network from outside: its numbers, and what it promises about threads, shards and errors.

mod behaviour;
mod reference;
