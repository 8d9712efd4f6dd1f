//! Constraints.

use serde_json::json;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Space;
use trainyard_fuzz::Target;

const WORDS: [&str; 40] = [
    "a",
    "b",
    "c",
    "d",
    "e",
    "`a`",
    "'x'",
    "\"y\"",
    "true",
    "false",
    "1",
    "0.5",
    "1e308",
    "+",
    "-",
    "*",
    "/",
    "%",
    "**",
    "(",
    ")",
    "[",
    "]",
    ", ",
    " == ",
    " != ",
    " < ",
    " <= ",
    " > ",
    " >= ",
    " and ",
    " or ",
    " not ",
    " in [1, 2]",
    " not in ['x']",
    "min(",
    "log(",
    "abs(",
    "b == (",
    ") == b",
];

#[test]
fn expression() {
    let space: Space = serde_json::from_value(json!({
        "a": {"type": "int", "minval": 1, "maxval": 4},
        "b": {"type": "boolean"},
        "c": {"type": "categorical", "vals": ["x", "y"]},
        "d": {"type": "double", "minval": 0.0, "maxval": 1.0, "when": {"b": true}},
        "e": {"type": "categorical", "vals": ["x", 1, true]},
    }))
    .unwrap();
    let space = SearchSpace::new(&space).unwrap();
    Target::new("expression", &|input| {
        read(&space, &String::from_utf8_lossy(input))
    })
    .words(&WORDS)
    .iterations(10_000)
    .longest(1_200)
    .memory(1 << 20)
    .run();
}

fn read(space: &SearchSpace, text: &str) -> String {
    match space.clone().constrained(&[text.to_owned()]) {
        Err(errors) => errors[0]
            .message
            .rsplit("`: ")
            .next()
            .unwrap_or_default()
            .to_owned(),
        Ok(constrained) => {
            let holds =
                (0..8).filter(|&draw| constrained.allows(&space.sample(Key::new(1).with(draw))));
            let holds = holds.count();
            // The same again: it depends on nothing else.
            let again = space.clone().constrained(&[text.to_owned()]).unwrap();
            let holds_again =
                (0..8).filter(|&draw| again.allows(&space.sample(Key::new(1).with(draw))));
            assert_eq!(holds_again.count(), holds);
            format!(
                "accepted, {}",
                ["never", "always", "sometimes"]
                    [usize::from(holds > 0) + usize::from(holds > 0 && holds < 8)]
            )
        }
    }
}
