use std::collections::BTreeSet;

use serde_json::{Value, json};
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Space;

use super::*;

pub(super) fn axes(space: &Value) -> Axes {
    let space: Space = serde_json::from_value(space.clone()).unwrap();
    Axes::new(SearchSpace::new(&space).unwrap())
}
