//! Rust text as tokens, as far as paths need it: without comments, text literals and what is compiled for
//! tests alone.

/// One token and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub(crate) fn is_name(&self) -> bool {
        let mut letters = self.text.chars();
        letters
            .next()
            .is_some_and(|c| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a file's product code.
pub(crate) fn product(text: &str) -> Vec<Token> {
    without_tests(all(text))
}

fn all(text: &str) -> Vec<Token> {
    let letters: Vec<char> = text.chars().collect();
    let (mut at, mut line) = (0, 1);
    let mut found = Vec::new();
    while at < letters.len() {
        let next = step(&letters, at);
        let piece = &letters[at..next.end];
        if next.counts {
            let text = piece.iter().collect();
            found.push(Token { text, line });
        }
        line += piece.iter().filter(|c| **c == '\n').count();
        at = next.end;
    }
    found
}

struct Piece {
    end: usize,
    counts: bool,
}

/// What begins at `at`, and where it ends.
fn step(letters: &[char], at: usize) -> Piece {
    let here = |text: &str| {
        let mut wanted = text.chars().enumerate();
        wanted.all(|(offset, letter)| letters.get(at + offset) == Some(&letter))
    };
    let skipped = |end: usize| Piece {
        end: end.min(letters.len()),
        counts: false,
    };
    let token = |end: usize| Piece { end, counts: true };
    let first = letters[at];
    if here("//") {
        return skipped(find(letters, at, "\n").unwrap_or(letters.len()));
    }
    if here("/*") {
        return skipped(find(letters, at + 2, "*/").map_or(letters.len(), |end| end + 2));
    }
    if first == '"' || here("b\"") || here("c\"") {
        return skipped(end_of_text(letters, at + if first == '"' { 1 } else { 2 }));
    }
    let raw = ["r", "br", "cr"].into_iter().find_map(|prefix| {
        let hashes = letters[at..].iter().skip(prefix.len());
        let hashes = hashes.take_while(|c| **c == '#').count();
        let opens = here(prefix) && letters.get(at + prefix.len() + hashes) == Some(&'"');
        opens.then(|| (at + prefix.len() + hashes + 1, hashes))
    });
    if let Some((from, hashes)) = raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return skipped(find(letters, from, &close).map_or(letters.len(), |end| end + 1 + hashes));
    }
    if first == '\'' {
        // A letter between quotes; otherwise a lifetime.
        return match (letters.get(at + 1), letters.get(at + 2)) {
            (Some('\\'), _) => skipped(find(letters, at + 3, "'").map_or(letters.len(), |e| e + 1)),
            (_, Some('\'')) => skipped(at + 3),
            _ => skipped(at + 1),
        };
    }
    if here("::") {
        return token(at + 2);
    }
    if first.is_alphanumeric() || first == '_' {
        let length = letters[at..].iter();
        let length = length
            .take_while(|c| c.is_alphanumeric() || **c == '_')
            .count();
        return token(at + length);
    }
    Piece {
        end: at + 1,
        counts: !first.is_whitespace(),
    }
}

fn find(letters: &[char], from: usize, text: &str) -> Option<usize> {
    let wanted: Vec<char> = text.chars().collect();
    let rest = letters.get(from..)?;
    rest.windows(wanted.len())
        .position(|window| window == wanted)
        .map(|at| from + at)
}

fn end_of_text(letters: &[char], from: usize) -> usize {
    let mut at = from;
    while let Some(letter) = letters.get(at) {
        match letter {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    letters.len()
}

/// Leaves out items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let marked = |at: usize| {
        let window = tokens.get(at..at + MARK.len());
        window.is_some_and(|window| window.iter().zip(MARK).all(|(t, mark)| t.is(mark)))
    };
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if marked(at) {
            at = end_of_item(&tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// After the item that begins at `at`: behind its `;`, or behind its last brace.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && (token.is(";") || token.is("}")) {
            break;
        }
        // The field, variant or argument that was meant is the last one.
        if depth < 0 || (depth == 0 && token.is(",")) {
            return if depth < 0 { at - 1 } else { at };
        }
    }
    at
}

#[test]
fn comments_texts_and_tests_are_left_out() {
    let text = "use a::b; // c::d\nlet x = \"e::f\"; 'g'; r#\"h::i\"#; /* j */ k::l::<'m>();\n\
                #[cfg(test)] mod tests { use n::o; } p::q";
    let found: Vec<String> = product(text).into_iter().map(|token| token.text).collect();
    assert_eq!(
        found.join(" "),
        "use a :: b ; let x = ; ; ; k :: l :: < m > ( ) ; p :: q"
    );
}
