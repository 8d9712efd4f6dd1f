//! The size of a YAML document with every alias written out, measured before a tree is made of it.
//!
//! A few hundred kilobytes of aliases to lists of aliases stand for billions of nodes, and as much text in one
//! anchored word for gigabytes; a parser looks at every open bracket again for each word.

use std::collections::HashMap;

use super::events::{Event, Events, Node};
use super::keys::Keys;

/// Most nodes of a document: a configuration's values and what holds them. 1 MiB of list elements of a few
/// characters are fewer.
const MAX_NODES: usize = 200_000;

/// Most bytes of text in it: as much as a document is long that has no aliases.
const MAX_TEXT: usize = 1 << 20;

/// Deepest nesting. A spec's own fields reach some ten levels.
const MAX_DEPTH: usize = 64;

/// Most `%TAG` lines: each is compared with all before it.
const MAX_DIRECTIVES: usize = 16;

/// Whether a text is small enough to be read. What is no YAML is found by who reads it.
///
/// # Errors
/// Which limit it is beyond, and in which line.
pub(super) fn check(text: &str) -> Result<(), String> {
    let directives = text.lines().filter(|line| line.starts_with("%TAG"));
    if directives.count() > MAX_DIRECTIVES {
        return Err(format!(
            "more than {MAX_DIRECTIVES} lines begin with `%TAG`"
        ));
    }
    let Some(mut events) = Events::new(text) else {
        return Err("there is no memory to read it".to_owned());
    };
    let mut measure = Measure::default();
    let mut keys = Keys::default();
    loop {
        let (event, line) = events.next();
        if event == Event::End {
            return Ok(());
        }
        let seen = keys.take(&event);
        seen.and_then(|()| measure.take(event))
            .map_err(|reason| format!("{reason} (at line {line})"))?;
    }
}

/// What a node and all below it come to.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
    /// Levels of lists and mappings.
    depth: usize,
}

/// A list or mapping that has begun.
#[derive(Debug)]
struct Open {
    anchor: Option<Vec<u8>>,
    size: Size,
}

#[derive(Debug, Default)]
struct Measure {
    documents: usize,
    open: Vec<Open>,
    /// Sizes by anchor; `None` while the node has not ended.
    anchors: HashMap<Vec<u8>, Option<Size>>,
    whole: Size,
}

impl Measure {
    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Document => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("more than one document; accepted is one".to_owned());
                }
            }
            Event::Open(Node { anchor, bytes, .. }, _) => {
                let size = Size {
                    nodes: 1,
                    text: bytes,
                    depth: 1,
                };
                self.name(anchor.as_ref(), None)?;
                self.count(size, self.open.len() + 1)?;
                self.open.push(Open { anchor, size });
            }
            Event::Scalar(Node { anchor, bytes, .. }) => {
                let size = Size {
                    nodes: 1,
                    text: bytes,
                    depth: 0,
                };
                self.name(anchor.as_ref(), Some(size))?;
                self.count(size, self.open.len())?;
                self.add(size);
            }
            Event::Close => {
                if let Some(Open { anchor, size }) = self.open.pop() {
                    if let Some(anchor) = anchor {
                        self.anchors.insert(anchor, Some(size));
                    }
                    self.add(size);
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(Some(size)) => {
                    let size = *size;
                    self.count(size, self.open.len() + size.depth)?;
                    self.add(size);
                }
                Some(None) => return Err("an alias stands within what it stands for".to_owned()),
                // Who reads it says so.
                None => {}
            },
            Event::End => {}
        }
        Ok(())
    }

    /// An anchor that stood twice would mean the first or the second: it depends on the reader.
    fn name(&mut self, anchor: Option<&Vec<u8>>, size: Option<Size>) -> Result<(), String> {
        let Some(anchor) = anchor else {
            return Ok(());
        };
        if self.anchors.insert(anchor.clone(), size).is_some() {
            let anchor = String::from_utf8_lossy(anchor);
            return Err(format!(
                "the anchor `&{}` stands twice; accepted are different names",
                crate::text::shortened(&anchor, 40)
            ));
        }
        Ok(())
    }

    /// Counts a node that stands in the document.
    fn count(&mut self, size: Size, depth: usize) -> Result<(), String> {
        self.whole.nodes = self.whole.nodes.saturating_add(size.nodes);
        self.whole.text = self.whole.text.saturating_add(size.text);
        let most = if self.whole.nodes > MAX_NODES {
            format!("more than {MAX_NODES} values")
        } else if self.whole.text > MAX_TEXT {
            format!("more than {MAX_TEXT} bytes of text")
        } else if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        } else {
            return Ok(());
        };
        Err(format!("{most}, every alias written out"))
    }

    /// Adds a whole node to the one around it.
    fn add(&mut self, size: Size) {
        if let Some(Open { size: around, .. }) = self.open.last_mut() {
            around.nodes = around.nodes.saturating_add(size.nodes);
            around.text = around.text.saturating_add(size.text);
            around.depth = around.depth.max(size.depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, reason: &str) {
        let error = check(text).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn aliases_count_as_often_as_they_stand() {
        check("a: &a [1, 2, {b: !t x}]\nc: [*a, *a, ~, 1.5, -3, true, '']").unwrap();
        let list = |item: &str, count| vec![item; count].join(", ");
        let bomb = format!("a: &a [{}]\nb: [{}]", list("0", 1_001), list("*a", 300));
        refused(&bomb, "more than 200000 values, every alias written out");
    }

    #[test]
    fn aliases_count_with_their_bytes() {
        let text = |bytes, aliases: usize| {
            let aliases = vec!["*a"; aliases].join(", ");
            format!("a: [&a '{}', {aliases}]", "x".repeat(bytes))
        };
        check(&text(100_000, 9)).unwrap();
        refused(&text(100_000, 10), "more than 1048576 bytes of text");
        refused(&text(400_000, 1_000), "more than 1048576 bytes of text");
        // Also where they are hidden in lists of lists, and in tags.
        let nested = format!(
            "a: &a '{}'\nb: &b [*a, *a, *a]\nc: [*b, *b, *b, *b]",
            "x".repeat(400_000)
        );
        refused(&nested, "more than 1048576 bytes of text");
        let tag = format!(
            "%TAG !e! tag:{}\n---\n[{}]",
            "x".repeat(400_000),
            ["!e!a b"; 20].join(", ")
        );
        refused(&tag, "more than 1048576 bytes of text");
    }

    #[test]
    fn depth_is_bounded_in_every_style_and_behind_aliases() {
        let flow = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        check(&flow(64)).unwrap();
        refused(&flow(65), "nested deeper than 64 levels");
        refused(&"[".repeat(1 << 20), "nested deeper than 64 levels");
        refused(
            &"[\n".repeat(1 << 19),
            "nested deeper than 64 levels (at line 65)",
        );
        refused(&"{a: ".repeat(1 << 18), "nested deeper than 64 levels");
        refused(&"- ".repeat(1 << 19), "nested deeper than 64 levels");
        refused(&"? ".repeat(1 << 19), "nested deeper than 64 levels");
        refused(&"[{a: [".repeat(1 << 17), "nested deeper than 64 levels");
        let block: String = (0..66)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect();
        refused(&block, "nested deeper than 64 levels");
        let mut doubled = "a0: &a0 [1]\n".to_owned();
        for level in 1..70 {
            doubled += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        refused(&doubled, "nested deeper than 64 levels");
    }

    #[test]
    fn brackets_in_text_are_no_nesting() {
        let brackets = "[{".repeat(1_000);
        for text in [
            format!("a: '{brackets}'"),
            format!("a: \"{brackets}\""),
            format!("a: |\n  {brackets}\nb: 1"),
            format!("a: 1 # {brackets}"),
            format!("a: x{brackets}"),
        ] {
            check(&text).unwrap();
        }
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        refused("a: &a 1\nb: &a 2\nc: *a", "the anchor `&a` stands twice");
        refused("a: &a [*a]", "within what it stands for");
        refused("a: 1\n---\nb: 2", "more than one document");
        refused(
            &"%TAG !a! x\n".repeat(17),
            "more than 16 lines begin with `%TAG`",
        );
    }
}
