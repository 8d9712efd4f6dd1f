//! YAML as a stream of events, from the parser that `serde_norway` reads documents with: what is too deep
//! or too large is seen here before a tree, or even a list of events, is made of it.
//!
//! It is that very parser, so that no text means one thing here and another there.

// The parser is a translation of libyaml to Rust and speaks in raw pointers.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

use unsafe_libyaml_norway as unsafe_yaml;

/// One event, with what counts of it.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// A document begins.
    Document,
    Scalar(Node),
    /// A list or mapping begins.
    Open(Node, Kind),
    Close,
    /// Stands for the node with this anchor.
    Alias(Vec<u8>),
    /// The text ends here, or is wrong here.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Mapping,
}

#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) anchor: Option<Vec<u8>>,
    /// Of the value and its tag.
    pub(super) bytes: usize,
    /// What a scalar says, without its tag.
    pub(super) word: Vec<u8>,
}

pub(super) struct Events<'a> {
    /// On the heap, where it stays: it points to itself.
    parser: Box<MaybeUninit<unsafe_yaml::yaml_parser_t>>,
    text: PhantomData<&'a str>,
}

impl<'a> Events<'a> {
    /// `None` without memory.
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let mut parser = Box::new(MaybeUninit::uninit());
        // SAFETY: `initialize` writes the whole of the parser, and cleans up after itself where it fails. The
        // text outlives the parser, by `'a`.
        unsafe {
            if unsafe_yaml::yaml_parser_initialize(parser.as_mut_ptr()).fail {
                return None;
            }
            unsafe_yaml::yaml_parser_set_encoding(
                parser.as_mut_ptr(),
                unsafe_yaml::YAML_UTF8_ENCODING,
            );
            unsafe_yaml::yaml_parser_set_input_string(
                parser.as_mut_ptr(),
                text.as_ptr(),
                text.len() as u64,
            );
        }
        Some(Self {
            parser,
            text: PhantomData,
        })
    }

    /// The next event and the line in which it begins, counted from 1. After [`Event::End`] there is none.
    pub(super) fn next(&mut self) -> (Event, u64) {
        let mut event = MaybeUninit::<unsafe_yaml::yaml_event_t>::uninit();
        loop {
            // SAFETY: the parser was initialized. `parse` writes the event, of which nothing is read where it
            // fails; the fields that are read are those of its type. It is deleted once, after the last use.
            let read = unsafe {
                if unsafe_yaml::yaml_parser_parse(self.parser.as_mut_ptr(), event.as_mut_ptr()).fail
                {
                    return (Event::End, 0);
                }
                let event = event.as_mut_ptr();
                let line = (*event).start_mark.line + 1;
                let read = read(&*event).map(|read| (read, line));
                unsafe_yaml::yaml_event_delete(event);
                read
            };
            if let Some(read) = read {
                return read;
            }
        }
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialized, and is used no more.
        unsafe { unsafe_yaml::yaml_parser_delete(self.parser.as_mut_ptr()) }
    }
}

/// What an event says; `None` where that is nothing.
///
/// # Safety
/// The parser has written the event, and it was not deleted.
unsafe fn read(event: &unsafe_yaml::yaml_event_t) -> Option<Event> {
    // SAFETY: each type has the fields that are read, whose texts are null or end with a zero; a scalar's value has
    // its length.
    unsafe {
        let node = |anchor, tag, word: &[u8]| Node {
            anchor: text(anchor),
            bytes: word.len() + text(tag).map_or(0, |tag| tag.len()),
            word: word.to_vec(),
        };
        Some(match event.type_ {
            unsafe_yaml::YAML_DOCUMENT_START_EVENT => Event::Document,
            unsafe_yaml::YAML_SCALAR_EVENT => {
                let scalar = &event.data.scalar;
                let word: &[u8] = match scalar.value.is_null() {
                    true => &[],
                    false => slice::from_raw_parts(scalar.value, scalar.length as usize),
                };
                Event::Scalar(node(scalar.anchor, scalar.tag, word))
            }
            unsafe_yaml::YAML_SEQUENCE_START_EVENT => {
                let sequence = &event.data.sequence_start;
                Event::Open(node(sequence.anchor, sequence.tag, &[]), Kind::List)
            }
            unsafe_yaml::YAML_MAPPING_START_EVENT => {
                let mapping = &event.data.mapping_start;
                Event::Open(node(mapping.anchor, mapping.tag, &[]), Kind::Mapping)
            }
            unsafe_yaml::YAML_SEQUENCE_END_EVENT | unsafe_yaml::YAML_MAPPING_END_EVENT => {
                Event::Close
            }
            unsafe_yaml::YAML_ALIAS_EVENT => {
                Event::Alias(text(event.data.alias.anchor).unwrap_or_default())
            }
            unsafe_yaml::YAML_STREAM_END_EVENT => Event::End,
            _ => return None,
        })
    }
}

/// # Safety
/// Null, or a text that ends with a zero.
unsafe fn text(start: *const u8) -> Option<Vec<u8>> {
    // SAFETY: as the caller says.
    (!start.is_null()).then(|| unsafe { CStr::from_ptr(start.cast()) }.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<(Event, u64)> {
        let mut events = Events::new(text).unwrap();
        let mut found = Vec::new();
        while found.last().is_none_or(|(event, _)| *event != Event::End) {
            found.push(events.next());
        }
        found
    }

    #[test]
    fn events_come_with_anchors_bytes_and_lines() {
        let node = |anchor: Option<&str>, bytes, word: &str| Node {
            anchor: anchor.map(|anchor| anchor.as_bytes().to_vec()),
            bytes,
            word: word.as_bytes().to_vec(),
        };
        let expected = [
            (Event::Document, 1),
            (Event::Open(node(None, 0, ""), Kind::Mapping), 1),
            (Event::Scalar(node(None, 1, "a")), 1),
            (Event::Open(node(Some("x"), 0, ""), Kind::List), 1),
            (Event::Scalar(node(None, 7, "hello")), 1),
            (Event::Close, 1),
            (Event::Scalar(node(None, 1, "b")), 2),
            (Event::Alias(b"x".to_vec()), 2),
            (Event::Close, 3),
            (Event::End, 3),
        ];
        assert_eq!(events("a: &x [!t 'hello']\nb: *x\n"), expected);
        assert_eq!(events("a: [").last().unwrap().0, Event::End);
        assert_eq!(events(""), [(Event::End, 1)]);
    }
}
