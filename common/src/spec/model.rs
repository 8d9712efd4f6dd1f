//! The network, whose words are those of [`crate::network`].

pub use crate::network::{Activation, Initializer, LayerSpec, ModelSpec, Padding, Pair};
