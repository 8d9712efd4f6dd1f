//! PURE: what a tool has said last, in words that are the same for all attempts that fail in the same way.

use super::tool::Ran;

/// Lines that stand in an error.
const LAST: usize = 6;
/// What says nothing of the reason.
const NOISE: [&str; 11] = [
    "Using Python",
    "Using CPython",
    "× Encountered error while",
    "note:",
    "hint:",
    "[notice]",
    "[end of output]",
    "╰─> See above",
    "See above",
    "WARNING: Retrying",
    "WARNING: Running pip as the 'root' user",
];
/// Characters that Python's names of temporary files end with, and uv's.
const RANDOM: [(&str, usize); 3] = [("tmp", 8), (".tmp", 6), ("0x", 8)];

/// The last lines on standard error, or else of the output, behind `: `. `places`: folders and what they are called.
pub(super) fn last(ran: &Ran, places: &[(String, &str)]) -> String {
    let telling = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().map(|line| line.trim());
        let telling = lines.filter(|line| {
            let says = !line.trim_matches(['^', '~', ' ']).is_empty();
            says && !NOISE.iter().any(|noise| line.starts_with(noise))
        });
        telling.map(|line| steady(line, places)).collect()
    };
    let both = [telling(&ran.errors), telling(&ran.output)];
    match both.iter().find(|lines| !lines.is_empty()) {
        Some(lines) => format!(
            ": {}",
            lines[lines.len().saturating_sub(LAST)..].join(" | ")
        ),
        None => String::new(),
    }
}

/// A line without what each attempt has of its own: its folders, random names, addresses in memory.
fn steady(line: &str, places: &[(String, &str)]) -> String {
    let mut text = line.to_owned();
    for (path, name) in places {
        text = text.replace(path.as_str(), name);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let word = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        shown.push_str(&named(&rest[..word]));
        let gap = rest[word..]
            .find(is_part)
            .map_or(rest.len(), |at| word + at);
        shown.push_str(&rest[word..gap]);
        rest = &rest[gap..];
    }
    shown
}

/// A word without the part of it that is random.
fn named(word: &str) -> String {
    // pip-req-build-a1b2c3d4
    if let (true, Some((kind, random))) = (word.starts_with("pip-"), word.rsplit_once('-'))
        && random.len() == 8
        && random
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return format!("{kind}-*");
    }
    for (prefix, digits) in RANDOM {
        if word
            .strip_prefix(prefix)
            .is_some_and(|random| random.len() >= digits && !random.contains(['-', '.']))
        {
            return format!("{prefix}*");
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn ran(output: &[&str], errors: &[&str]) -> Ran {
        let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        Ran {
            status: std::process::ExitStatus::from_raw(256),
            output: owned(output),
            errors: owned(errors),
        }
    }

    #[test]
    fn what_attempts_have_of_their_own_is_left_out() {
        let places = [
            ("/s/7/code".to_owned(), "."),
            ("/s/e/ab-cd/tmp".to_owned(), "TMPDIR"),
        ];
        for (line, shown) in [
            ("ERROR: no x==9 in /s/7/code/lib", "ERROR: no x==9 in ./lib"),
            (
                "in /s/e/ab-cd/tmp/pip-req-build-a1b2_3d4/setup.py",
                "in TMPDIR/pip-req-build-*/setup.py",
            ),
            (
                "at <x.Y object at 0x7f01deadbeef>",
                "at <x.Y object at 0x*>",
            ),
            (
                "uv: .tmpAbC123/x and tmpabcd1234, é",
                "uv: .tmp*/x and tmp*, é",
            ),
            ("pip-tools==7 and tmp.py", "pip-tools==7 and tmp.py"),
        ] {
            assert_eq!(steady(line, &places), shown);
        }
    }

    #[test]
    fn the_last_lines_that_say_something_are_told() {
        let error = [
            "ERROR: No matching distribution found for x==9",
            "",
            "[notice] a new pip",
        ];
        assert_eq!(
            last(&ran(&["Looking in links"], &error), &[]),
            ": ERROR: No matching distribution found for x==9"
        );
        assert_eq!(
            last(&ran(&["only here"], &["note: see"]), &[]),
            ": only here"
        );
        assert_eq!(last(&ran(&[], &[]), &[]), "");
        let many: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(last(&ran(&[], &many), &[]), ": 14 | 15 | 16 | 17 | 18 | 19");
    }
}
