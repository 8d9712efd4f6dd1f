//! PURE: JSON as programs print it: with the bare words `NaN` and `Infinity`, behind whatever else stands in a line,
//! in colours.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Objects that a line may seem to begin before the one that is meant: braces in the text before a report. Each is
/// tried, so that their number bounds what a line of nothing but braces costs.
const MAX_STARTS: usize = 64;

/// Numbers that are none in JSON, as Python's `json` writes them.
const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Reads JSON in which numbers may be bare words; they become text.
pub(super) fn value(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(&quoted(text))
}

/// A number, as JSON has it or as a word.
pub(super) fn number(value: &Value) -> Option<f64> {
    let Value::String(word) = value else {
        return value.as_f64();
    };
    match word.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "infinity" | "inf" | "+infinity" | "+inf" => Some(f64::INFINITY),
        "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The object with which a line ends, if it does with one that has this field.
pub(super) fn object_at_end(line: &str, field: &str) -> Option<Map<String, Value>> {
    if !line.ends_with('}') {
        return None;
    }
    // The outermost that reaches to the end.
    line.match_indices('{')
        .take(MAX_STARTS)
        .find_map(|(at, _)| match value(&line[at..]) {
            Ok(Value::Object(object)) => object.contains_key(field).then_some(object),
            _ => None,
        })
}

/// Whether an object with this field stands in a line, with something behind it.
pub(super) fn object_within(line: &str, field: &str) -> bool {
    line.match_indices('{').take(MAX_STARTS).any(|(at, _)| {
        let text = quoted(&line[at..]);
        let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        matches!(values.next(), Some(Ok(Value::Object(object))) if object.contains_key(field))
    })
}

/// The text with its bare words in quotes.
fn quoted(text: &str) -> Cow<'_, str> {
    if !WORDS[1..].iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = WORDS.iter().find(|word| rest.starts_with(**word));
        if let (false, Some(word)) = (in_string, word) {
            out.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(out)
}

/// The text without what colours it or moves a cursor (ECMA-48: `ESC [ ... letter`, `ESC ] ... BEL`).
pub(super) fn uncoloured(text: &str) -> Cow<'_, str> {
    const ESCAPE: char = '\u{1b}';
    if !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(ESCAPE) {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = if let Some(sequence) = after.strip_prefix('[') {
            let end = sequence.find(|c: char| !matches!(c, ' '..='?'));
            end.map_or("", |end| past(sequence, end))
        } else if let Some(title) = after.strip_prefix(']') {
            let end = title.find(['\u{7}', ESCAPE]);
            end.map_or("", |end| past(title, end))
        } else {
            // Something else: shown for what it is.
            out.push(ESCAPE);
            after
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What follows the character that begins here.
fn past(text: &str, at: usize) -> &str {
    let mut rest = text[at..].chars();
    rest.next();
    rest.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_numbers_and_text_stays_text() {
        let table = [
            (r#"{"a": NaN}"#, r#"{"a":"NaN"}"#),
            (
                r#"{"a": [Infinity, -Infinity, -1]}"#,
                r#"{"a":["Infinity","-Infinity",-1]}"#,
            ),
            (
                r#"{"a NaN": "Infinity \" NaN", "ü": NaN}"#,
                r#"{"a NaN":"Infinity \" NaN","ü":"NaN"}"#,
            ),
            (r#"{"a\\": NaN, "b": "\\"}"#, r#"{"a\\":"NaN","b":"\\"}"#),
        ];
        for (text, expected) in table {
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(value(text).unwrap(), expected, "{text}");
        }
        assert!(value(r#"{"a": NaNa}"#).is_err());
        for (word, is) in [
            ("nan", f64::NAN),
            ("-Infinity", f64::NEG_INFINITY),
            ("inf", f64::INFINITY),
        ] {
            let read = number(&Value::from(word)).unwrap();
            assert!(read == is || (read.is_nan() && is.is_nan()), "{word}");
        }
        assert_eq!(number(&Value::from("0.5")), None);
        assert_eq!(number(&Value::from(true)), None);
    }

    #[test]
    fn the_outermost_object_at_the_end_is_found() {
        let table = [
            (r#"{"m": {"a": 1}}"#, true),
            (r#"epoch 1: {"m": {"a": 1}}"#, true),
            (r#"50%|###| {x} it's 5" {"e": {"f": 1}, "m": {}}"#, true),
            (r#"{"m": 1} # done"#, false),
            (r#"{"a": {"m": 1}}"#, false),
            (r#"{"a": 1}"#, false),
            ("{'m': 1}", false),
        ];
        for (line, found) in table {
            let object = object_at_end(line, "m");
            assert_eq!(object.is_some(), found, "{line}");
        }
        assert!(object_within(r#"x {"m": 1} # done"#, "m"));
        assert!(!object_within(r#"x {"n": 1} # done"#, "m"));
        // Bounded, whatever stands there.
        let braces = format!("{}{}", r#"{"a":["#.repeat(10_000), r#"{"m": 1}"#);
        assert_eq!(object_at_end(&braces, "m"), None);
    }

    #[test]
    fn colours_are_taken_out() {
        let table = [
            ("plain", "plain"),
            ("\u{1b}[32mok\u{1b}[0m", "ok"),
            ("a\u{1b}[1;31mb", "ab"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("cut \u{1b}[3", "cut "),
            ("\u{1b}Mx", "\u{1b}Mx"),
            ("\u{1b}[ü", ""),
        ];
        for (text, expected) in table {
            assert_eq!(uncoloured(text), expected, "{text:?}");
        }
    }
}
