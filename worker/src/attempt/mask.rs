//! Texts that nobody is to see: what a log line or an error has of them is replaced.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

/// Shorter texts stand in words that have nothing to do with them.
const MIN_CHARS: usize = 8;
/// What stands in their place.
const HIDDEN: &str = "***";

/// Of one attempt. What is cut is hidden first: of a text that is cut already, nobody finds a beginning.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    /// The longest first: another may be a part of it.
    texts: Vec<String>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} texts)", self.texts.len())
    }
}

impl Mask {
    /// Hides nothing.
    pub(crate) const fn none() -> Self {
        Self { texts: Vec::new() }
    }

    /// Hides values of 8 and more characters; of one with several lines each line, as the log has them.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = values.into_iter().flat_map(str::lines).map(str::trim);
        let long = lines.filter(|line| line.chars().count() >= MIN_CHARS);
        let mut texts: Vec<String> = long.flat_map(written).collect();
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        texts.dedup();
        Self { texts }
    }

    pub(crate) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        for hidden in &self.texts {
            if shown.contains(hidden.as_str()) {
                shown = Cow::Owned(shown.replace(hidden.as_str(), HIDDEN));
            }
        }
        shown
    }

    /// Of the beginning of a longer text, which may end within one that is hidden: what may be part of it is left out.
    pub(crate) fn hide_beginning(&self, text: &str) -> String {
        let mut shown = self.hide(text).into_owned();
        let longest = self.texts.first().map_or(0, String::len);
        let mut end = shown.len().saturating_sub(longest.saturating_sub(1));
        while !shown.is_char_boundary(end) {
            end -= 1;
        }
        shown.truncate(end);
        shown
    }
}

/// As it is, and as sentences quote it: escaped as in JSON, and as Rust shows texts.
fn written(text: &str) -> [String; 3] {
    let within = |quoted: String| quoted[1..quoted.len() - 1].to_owned();
    [
        text.to_owned(),
        within(Value::from(text).to_string()),
        within(format!("{text:?}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_wherever_they_stand() {
        let mask = Mask::of([
            "hunter2-and-more",
            "hunter2-and",
            "short",
            "first line\nsecond line\nx\n",
        ]);
        for (text, shown) in [
            ("nothing here", "nothing here"),
            ("key=hunter2-and-more;", "key=***;"),
            ("hunter2-and hunter2-and-more", "*** ***"),
            ("short is shown", "short is shown"),
            ("a second line of it", "a *** of it"),
            ("first line", "***"),
        ] {
            assert_eq!(mask.hide(text), shown);
        }
        assert_eq!(format!("{mask:?}"), "Mask(4 texts)");
        assert_eq!(Mask::none().hide("all"), "all");
    }

    #[test]
    fn values_are_hidden_as_sentences_quote_them() {
        let value = "a\"b\\c\u{1b}'de\u{e9}";
        let mask = Mask::of([value]);
        for quoted in [
            value.to_owned(),
            format!("{value:?}"),
            Value::from(value).to_string(),
            format!("{:?}", format!("x{value}y")),
        ] {
            let told = format!("name is {quoted}, expected");
            let shown = mask.hide(&told);
            assert!(shown.contains("***") && !shown.contains("de"), "{shown}");
        }
    }

    #[test]
    fn of_a_text_that_was_cut_no_beginning_of_a_value_is_left() {
        let mask = Mask::of(["12345678", "\u{e9}bcdefghijk"]);
        let whole = "key 12345678, key \u{e9}bcdefghijk and more";
        for (cut, _) in whole.char_indices() {
            let shown = mask.hide_beginning(&whole[..cut]);
            for part in ["1", "\u{e9}", "b", "gh"] {
                assert!(!shown.contains(part), "{cut}: {shown}");
            }
        }
        let shown = mask.hide_beginning(whole);
        assert_eq!(shown, "key ***, key *");
        assert_eq!(Mask::none().hide_beginning("all of it"), "all of it");
    }
}
