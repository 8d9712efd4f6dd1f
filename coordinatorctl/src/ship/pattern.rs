//! PURE: one line of a `.gitignore`, as gitignore(5) describes it, and the paths that it fits.
//!
//! Takes time in proportion to the product of both lengths at worst, whatever stars are in it.

/// A line that says something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    takes_back: bool,
    folders_only: bool,
    parts: Vec<Part>,
}

/// What stands between slashes.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// `**`: any number of names.
    Names,
    Name(Vec<Token>),
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[a-z_]`, `[!0-9]`
    Of {
        but: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// `None`: an empty line, or a comment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(line: &str) -> Result<Option<Self>, String> {
        let line = without_blanks(line);
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (takes_back, rest) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (folders_only, rest) = match rest.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let from_root = rest.strip_prefix('/');
        let named: Vec<&str> = from_root.unwrap_or(rest).split('/').collect();
        if named.iter().any(|name| name.is_empty()) {
            return Err("has an empty name in it".to_owned());
        }
        let mut parts = Vec::new();
        // A name alone is one in any folder.
        if from_root.is_none() && named.len() == 1 {
            parts.push(Part::Names);
        }
        for name in named {
            parts.push(match name {
                "**" => Part::Names,
                name => Part::Name(tokens(name)?),
            });
        }
        // What is in a folder, not the folder.
        if parts.len() > 1 && matches!(parts.last(), Some(Part::Names)) {
            parts.push(Part::Name(vec![Token::Many]));
        }
        Ok(Some(Self {
            takes_back,
            folders_only,
            parts,
        }))
    }

    /// Whether what it fits stays behind; otherwise it goes along after all.
    pub(super) fn excludes(&self) -> bool {
        !self.takes_back
    }

    pub(super) fn fits(&self, path: &[&str], is_folder: bool) -> bool {
        let is_names = |part: &Part| *part == Part::Names;
        let one = |part: &Part, name: &&str| match part {
            Part::Names => false,
            Part::Name(tokens) => name_fits(tokens, name),
        };
        (is_folder || !self.folders_only) && fit(&self.parts, path, is_names, one)
    }
}

/// Blanks at the end do not count unless the last one is escaped.
fn without_blanks(line: &str) -> &str {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let trimmed = line.trim_end_matches(' ');
    match trimmed.ends_with('\\') && trimmed.len() < line.len() {
        true => &line[..=trimmed.len()],
        false => trimmed,
    }
}

fn tokens(name: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        tokens.push(match letter {
            '*' => Token::Many,
            '?' => Token::One,
            '[' => class(&mut letters).ok_or("has a `[` without its end")?,
            '\\' => Token::Letter(letters.next().ok_or("ends with a `\\`")?),
            letter => Token::Letter(letter),
        });
    }
    Ok(tokens)
}

/// Behind a `[`. `None`: it does not end.
fn class(letters: &mut std::str::Chars<'_>) -> Option<Token> {
    let mut ahead = letters.clone();
    let but = matches!(ahead.next(), Some('!' | '^'));
    if but {
        letters.next();
    }
    let mut ranges = Vec::new();
    loop {
        let from = match letters.next()? {
            // The first one is a letter.
            ']' if !ranges.is_empty() => return Some(Token::Of { but, ranges }),
            '\\' => letters.next()?,
            letter => letter,
        };
        let mut ahead = letters.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                letters.nth(1);
                match to {
                    '\\' => letters.next()?,
                    to => to,
                }
            }
            _ => from,
        };
        ranges.push((from, to));
    }
}

fn name_fits(tokens: &[Token], name: &str) -> bool {
    let letters: Vec<char> = name.chars().collect();
    let is_many = |token: &Token| *token == Token::Many;
    let one = |token: &Token, letter: &char| match token {
        Token::Letter(known) => known == letter,
        Token::One => true,
        Token::Many => false,
        Token::Of { but, ranges } => {
            let mut ranges = ranges.iter();
            ranges.any(|(from, to)| (from..=to).contains(&letter)) != *but
        }
    };
    fit(tokens, &letters, is_many, one)
}

/// Whether a pattern fits all of a text. Where it does not, the last star takes one more: an earlier one need not.
fn fit<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(part) if is_star(part) => {
                star = Some((p, t));
                p += 1;
            }
            Some(part) if one(part, &text[t]) => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(is_star)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `git check-ignore` says of a file (of a folder, with a slash at its end).
    fn fits(line: &str, path: &str) -> bool {
        let pattern = Pattern::read(line).unwrap().unwrap();
        let (path, is_folder) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        pattern.fits(&path.split('/').collect::<Vec<_>>(), is_folder)
    }

    #[test]
    fn lines_fit_what_they_fit_for_git() {
        let table: [(&str, &[&str], &[&str]); 14] = [
            ("data", &["data", "data/", "a/data"], &["data2", "a/data/b"]),
            ("data/", &["data/", "a/data/"], &["data"]),
            ("/data", &["data", "data/"], &["a/data"]),
            ("a/b", &["a/b"], &["c/a/b", "a/b/c", "a"]),
            ("*.pyc", &["x.pyc", "a/b/.pyc"], &["x.py", "x.pyc2"]),
            ("a/*", &["a/b", "a/.c/"], &["a", "a/b/c"]),
            ("a/**", &["a/b", "a/b/c"], &["a/", "b/a"]),
            ("**/a", &["a", "b/a", "b/c/a"], &["ab", "a/b"]),
            (
                "a/**/b",
                &["a/b", "a/x/b", "a/x/y/b"],
                &["b", "a/bb", "x/a/b"],
            ),
            (
                "file?.t[xy]t",
                &["file1.txt", "a/fileä.tyt"],
                &["file.txt", "file1.tzt"],
            ),
            ("[!a-c]x", &["dx", "-x"], &["ax", "bx", "x"]),
            ("[]-]", &["]", "-"], &["a", "[]-]"]),
            ("\\!a\\ \\#\\*", &["!a #*"], &["!a #b", "a"]),
            ("a\\ ", &["a "], &["a"]),
        ];
        for (line, yes, no) in table {
            for path in yes {
                assert!(fits(line, path), "{line} fits {path}");
            }
            for path in no {
                assert!(!fits(line, path), "{line} does not fit {path}");
            }
        }
        assert!(fits("a  \r", "a"));
    }

    #[test]
    fn comments_say_nothing_and_mistakes_are_named() {
        for line in ["", "   ", "# a", "\r"] {
            assert_eq!(Pattern::read(line), Ok(None), "{line:?}");
        }
        for (line, why) in [
            ("a[", "without its end"),
            ("[]", "without its end"),
            ("[a-", "without its end"),
            ("a\\", "ends with"),
            ("a//b", "an empty name"),
            ("/", "an empty name"),
            ("!", "an empty name"),
        ] {
            let error = Pattern::read(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        assert!(!Pattern::read("!a").unwrap().unwrap().excludes());
        assert!(Pattern::read("a").unwrap().unwrap().excludes());
    }

    #[test]
    fn stars_do_not_make_it_slow() {
        let line = "*a".repeat(200) + "b";
        assert!(!fits(&line, &"a".repeat(10_000)));
        let line = "**/a/".repeat(200) + "b";
        assert!(!fits(&line, &vec!["a"; 5_000].join("/")));
    }
}
