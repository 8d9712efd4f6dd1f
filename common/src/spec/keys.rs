//! Keys of mappings: one that stands twice is refused where it does, by its line.
//!
//! Whoever reads the document would name the mapping alone, or take the last of both.

use std::collections::HashSet;

use super::error::quoted;
use super::events::{Event, Kind};

/// The keys of the mappings that are open.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// From the outermost; `None` for lists.
    open: Vec<Option<Mapping>>,
}

#[derive(Debug, Default)]
struct Mapping {
    seen: HashSet<Vec<u8>>,
    /// The next node is a value.
    is_value: bool,
}

impl Keys {
    /// Takes the next event.
    ///
    /// # Errors
    /// A key that its mapping has already.
    pub(super) fn take(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Scalar(node) => {
                if let Some(mapping) = self.next_node()
                    && !mapping.seen.insert(node.word.clone())
                {
                    let key = String::from_utf8_lossy(&node.word);
                    return Err(format!(
                        "the key `{}` stands twice in one mapping; accepted is one of them",
                        quoted(&key)
                    ));
                }
            }
            Event::Open(_, kind) => {
                self.next_node();
                let mapping = (*kind == Kind::Mapping).then(Mapping::default);
                self.open.push(mapping);
            }
            Event::Alias(_) => {
                self.next_node();
            }
            Event::Close => {
                self.open.pop();
            }
            Event::Document | Event::End => {}
        }
        Ok(())
    }

    /// Counts a node; the mapping whose key it is, if it is one.
    fn next_node(&mut self) -> Option<&mut Mapping> {
        let mapping = self.open.last_mut()?.as_mut()?;
        let is_key = !mapping.is_value;
        mapping.is_value = is_key;
        is_key.then_some(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::super::nodes;

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_line() {
        let cases = [
            (
                "name: x\nname: y\n",
                "`name` stands twice in one mapping; accepted is one of them (at line 2)",
            ),
            (
                "a:\n  lr: 1\n  b: [lr, lr]\n  lr: 2\n",
                "`lr` stands twice in one mapping; accepted is one of them (at line 4)",
            ),
            (
                "{\"a\": {\"x\": 1,\n\"x\": 2}}",
                "`x` stands twice in one mapping; accepted is one of them (at line 2)",
            ),
            (
                "{[1]: 2, 1: 3,\n \"1\": 4}",
                "`1` stands twice in one mapping; accepted is one of them (at line 2)",
            ),
        ];
        for (text, expected) in cases {
            let refused = nodes::check(text).unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
        for fine in [
            "a: a\nb: {a: b, b: b}\nc: [{a: 1}, {a: 2}]",
            "a: &x {k: 1}\nb: *x\nc: *x\nk: k",
            "? {a: 1}\n: {a: 1}\na: 2",
        ] {
            nodes::check(fine).unwrap();
        }
    }
}
