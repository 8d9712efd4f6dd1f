//! Texts that nobody is to see: what a log line or an error has of them is replaced.

use std::borrow::Cow;
use std::fmt;

/// Shorter texts stand in words that have nothing to do with them.
const MIN_CHARS: usize = 8;
/// What stands in their place.
const HIDDEN: &str = "***";

/// Of one attempt.
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
    /// Hides values of 8 and more characters; of one with several lines each line, as the log has them.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = values.into_iter().flat_map(str::lines).map(str::trim);
        let long = lines.filter(|line| line.chars().count() >= MIN_CHARS);
        let mut texts: Vec<String> = long.map(str::to_owned).collect();
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
        assert_eq!(Mask::default().hide("all"), "all");
    }
}
