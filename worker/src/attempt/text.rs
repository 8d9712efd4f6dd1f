//! PURE: texts that may be long, cut to what is passed on.

/// The text up to a number of bytes, cut between characters, with the cut marked.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let boundary = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=limit).rev().find(boundary).unwrap_or(0);
    format!("{}... ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "ä".repeat(8192);
        let short = cut(&text, 5);
        assert_eq!(short, format!("ää... ({} bytes)", text.len()));
        assert_eq!(cut("abc", 3), "abc");
    }
}
