//! Text from outside (names, errors, columns, what programs print) made fit for a terminal, a log or a message.
//!
//! Whoever prints or logs passes it through here once, at the end. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Longest word that others are near to: longer than all that are known.
const MAX_NEAR: usize = 64;

/// Which control characters stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None: the text is a part of one line.
    Nothing,
    /// Line ends and tabs: the text stands for itself.
    Lines,
}

/// The text with control characters, escape sequences with them, and what reorders or ends lines
/// written as Rust does: `\u{1b}[31m`. What a person can see stays as it is.
pub fn printable(text: &str, keep: Keep) -> Cow<'_, str> {
    let stays = |c: char| match c {
        '\n' | '\t' => keep == Keep::Lines,
        c => !is_hidden(c),
    };
    escaped(text, stays, |c, out| out.extend(c.escape_default()))
}

/// As [`printable`], of JSON, which is the same JSON afterwards: the encoder escapes some control characters
/// and leaves others in its strings.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let stays = |c: char| matches!(c, '\n' | '\t' | '\r') || !is_hidden(c);
    escaped(json, stays, |c, out| {
        // All of them lie in the plane that four digits can name.
        let _ = write!(out, "\\u{:04x}", u32::from(c));
    })
}

/// As [`printable`] with [`Keep::Nothing`], of a line that has colours of our own in it.
pub(crate) fn printable_coloured(line: &str) -> Cow<'_, str> {
    let stays = |c: char| c == '\u{1b}' || !is_hidden(c);
    escaped(line, stays, |c, out| out.extend(c.escape_default()))
}

/// The beginning of a text, at most so many bytes of it, and how much was left out.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = boundary(text, most);
    Cow::Owned(format!(
        "{}... ({} bytes more)",
        &text[..end],
        text.len() - end
    ))
}

/// Digits in a row, with a point, that are no number which somebody has written so: 1e308 with its zeros.
const LONG_NUMBER: usize = 40;

/// The text with very long decimal numbers written with an exponent.
pub fn short_numbers(text: &str) -> Cow<'_, str> {
    let part = |c: char| c.is_ascii_digit() || c == '.';
    let mut short = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = rest[start..].find(|c| !part(c));
        let end = end.map_or(rest.len(), |length| start + length);
        let number = &rest[start..end];
        short.push_str(&rest[..start]);
        match number.parse::<f64>() {
            Ok(value) if number.len() > LONG_NUMBER && value.is_finite() => {
                // Writing to a String cannot fail.
                let _ = write!(short, "{value:e}");
            }
            _ => short.push_str(number),
        }
        rest = &rest[end..];
    }
    if rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    short.push_str(rest);
    Cow::Owned(short)
}

/// What a text that was cut by [`within`] ends with.
pub const CUT: &str = " [cut]";

/// The text; where it is too long, cut between characters, at most so many bytes with the mark.
pub fn within(mut text: String, most: usize) -> String {
    if text.len() > most {
        let room = most.saturating_sub(CUT.len());
        text.truncate(boundary(&text, room));
        // What was cut off is not to be held either.
        text.shrink_to_fit();
        text.push_str(CUT);
    }
    text
}

/// The last beginning of a character at or before a byte.
fn boundary(text: &str, at: usize) -> usize {
    let mut before = (0..=at).rev();
    before.find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// What a terminal obeys instead of showing: C0 and C1 controls, the marks, embeddings, overrides and isolates of
/// bidirectional text (Unicode TR 9), by which a line can read otherwise than it is, and the two
/// separators that end a line beside `\n`.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

fn escaped(
    text: &str,
    stays: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    let Some(first) = text.find(|c| !stays(c)) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if stays(c) {
            out.push(c);
        } else {
            escape(c, &mut out);
        }
    }
    Cow::Owned(out)
}

/// The known word nearest to a given one, where one is near enough to be what was meant.
pub fn near<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > MAX_NEAR {
        return None;
    }
    let lower = given.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, word), word))
        .filter(|(distance, word)| *distance <= (word.len().max(lower.len()) / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let cases = [
            ("plain, süß, 日本語, 👩‍👩‍👧", "plain, süß, 日本語, 👩‍👩‍👧"),
            ("\u{1b}[31mred\u{1b}[0m", r"\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("a\u{8}b\u{7f}c\u{0}", r"a\u{8}b\u{7f}c\u{0}"),
            ("half\rover", r"half\rover"),
            ("user\u{202e}txt.exe", r"user\u{202e}txt.exe"),
            ("\u{2066}a\u{2069}", r"\u{2066}a\u{2069}"),
            ("one\u{2028}two", r"one\u{2028}two"),
            ("one\ntwo\tthree", r"one\ntwo\tthree"),
            ("", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(printable(given, Keep::Nothing), expected);
        }
        assert_eq!(printable("one\n\ttwo\r", Keep::Lines), "one\n\ttwo\\r");
    }

    #[test]
    fn nothing_that_is_hidden_is_left_of_any_character() {
        for c in (0..=0x2_ffff).filter_map(char::from_u32) {
            let text = format!("a{c}b");
            assert!(
                !printable(&text, Keep::Nothing).contains(is_hidden),
                "{c:?}"
            );
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value =
            serde_json::json!({"a\u{9b}": "x\u{7f}\u{202e}\u{1b}[0m\n\u{2028}", "b": [1, "ü"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = printable_json(&text);
        let hidden = |c: char| c != '\n' && is_hidden(c);
        assert!(text.contains(hidden) && !shown.contains(hidden), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("ääää", 5), "ää... (4 bytes more)");
    }

    proptest! {
        #[test]
        fn texts_are_cut_at_a_character_with_a_mark(whole in "\\PC{0,80}", most in 8_usize..120) {
            let cut = within(whole.clone(), most);
            prop_assert!(cut.len() <= most);
            if whole.len() <= most {
                prop_assert_eq!(cut, whole);
            } else {
                let kept = cut.strip_suffix(CUT).unwrap();
                prop_assert!(whole.starts_with(kept));
                // No more is lost than a character and the mark.
                prop_assert!(kept.len() + 4 + CUT.len() > most);
            }
        }
    }

    #[test]
    fn long_numbers_are_written_with_an_exponent() {
        for (given, expected) in [
            (format!("{} given", 1e308), "1e308 given".to_owned()),
            (format!("-{}; 0.5", 5e-324), "-5e-324; 0.5".to_owned()),
            ("no number".to_owned(), "no number".to_owned()),
            (
                "18446744073709551615 and 1.5.2".to_owned(),
                "18446744073709551615 and 1.5.2".to_owned(),
            ),
            ("1".repeat(400), "1".repeat(400)),
            (
                format!("`{}`", "1.".repeat(40)),
                format!("`{}`", "1.".repeat(40)),
            ),
        ] {
            assert_eq!(short_numbers(&given), expected);
        }
    }
}
