//! `${name}`: a hyperparameter's value in the parts of a document that a trial uses.
//!
//! A string that is nothing but one reference becomes the value with its type; within a longer
//! string the value is inserted as text. `$${` stands for a literal `${`. A field that is the reference
//! to an inactive hyperparameter is left out, so that its default holds.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::Params;
use super::error::{Problems, near, quoted};
use super::path::{below, element};

/// The parts of a document in which references may stand: what a trial uses.
pub(super) const REFERENCABLE: [&str; 6] = [
    "data",
    "split",
    "preprocess",
    "model",
    "training",
    "entrypoint",
];

/// Most bytes of text that references may come to in one configuration's document: as much as a document has. A
/// constant of half a megabyte that stands a thousand times would be gigabytes.
const MAX_REPLACED: usize = 1 << 20;

/// A piece of a string.
enum Piece<'a> {
    Text(&'a str),
    Reference(&'a str),
    /// `${` without its end.
    Open,
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            pieces.push(Piece::Text(&rest[..start - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[start + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..start]));
        let inside = &rest[start + 2..];
        let Some(end) = inside.find('}') else {
            pieces.push(Piece::Open);
            return pieces;
        };
        pieces.push(Piece::Reference(inside[..end].trim()));
        rest = &inside[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// Whether a string holds a reference (or the beginning of one).
pub(super) fn is_in(text: &str) -> bool {
    pieces(text)
        .iter()
        .any(|piece| !matches!(piece, Piece::Text(_)))
}

/// Whether any string of a value holds a reference.
pub(super) fn is_below(value: &Value) -> bool {
    let mut any = false;
    visit(value, "", &mut |_, text| any |= is_in(text));
    any
}

/// The names that references in any string of a value hold.
pub(super) fn names(value: &Value, found: &mut BTreeSet<String>) {
    visit(value, "", &mut |_, text| {
        found.extend(pieces(text).into_iter().filter_map(|piece| match piece {
            Piece::Reference(name) => Some(name.to_owned()),
            Piece::Text(_) | Piece::Open => None,
        }));
    });
}

/// A URL in which references are readable again after percent-encoding. Looks at the whole for each different
/// one: the caller bounds its length.
pub(super) fn unescape_url(url: &str, original: &str) -> String {
    let mut names = BTreeSet::new();
    names.extend(
        pieces(original)
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Reference(name) => Some(name),
                Piece::Text(_) | Piece::Open => None,
            }),
    );
    names.into_iter().fold(url.to_owned(), |url, name| {
        url.replace(&format!("$%7B{name}%7D"), &format!("${{{name}}}"))
    })
}

/// Checks that references stand where they may and name what there is; returns the names.
pub(super) fn check(root: &Value, known: &[&str], errors: &mut Problems) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let Value::Object(sections) = root else {
        return used;
    };
    let all: HashSet<&str> = known.iter().copied().collect();
    for (section, value) in sections {
        let allowed = REFERENCABLE.contains(&section.as_str());
        visit(value, section, &mut |path, text| {
            for piece in pieces(text) {
                match piece {
                    Piece::Text(_) => {}
                    Piece::Reference(name) if !allowed => {
                        errors.add(path, || misplaced(name));
                    }
                    Piece::Reference(name) if all.contains(name) => {
                        if !used.contains(name) {
                            used.insert(name.to_owned());
                        }
                    }
                    Piece::Reference(name) => errors.add(path, || unknown(section, name, known)),
                    Piece::Open => errors.add(path, || {
                        format!(
                            "`{}` has `${{` without `}}`; accepted is ${{name}} (and `$${{` for a literal `${{`)",
                            quoted(text)
                        )
                    }),
                }
            }
        });
    }
    used
}

fn misplaced(name: &str) -> String {
    format!(
        "the reference ${{{}}} stands in a field of the whole job, which has one value for all trials; references are accepted in {}",
        quoted(name),
        REFERENCABLE.join(", ")
    )
}

fn unknown(section: &str, name: &str, known: &[&str]) -> String {
    let hint = match (near(name, known.iter().copied()), known.is_empty()) {
        (Some(word), _) => format!("did you mean `{word}`?"),
        (None, true) => "the document has no hyperparameters".to_owned(),
        (None, false) => format!("there are `{}`", known.join("`, `")),
    };
    let literal = if section == "entrypoint" {
        " (a literal `${` is written `$${`)"
    } else {
        ""
    };
    format!(
        "there is no hyperparameter `{}`; {hint}{literal}",
        quoted(name)
    )
}

/// Every string below a value, with its path.
fn visit(value: &Value, path: &str, found: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => found(path, text),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                visit(item, &element(path, i), found);
            }
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                visit(value, &below(path, key), found);
            }
        }
        _ => {}
    }
}

/// How much text references may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Applies,
    /// In a document that was accepted before there was one.
    Lifted,
}

/// The document of one configuration: every reference replaced.
///
/// # Errors
/// References to hyperparameters that this configuration does not have (all are known ones), and more text than
/// is accepted.
pub(super) fn replace(root: &Value, params: &Params, limit: Limit) -> Result<Value, Problems> {
    let mut replaced = root.clone();
    let mut replacing = Replacing {
        params,
        left: match limit {
            Limit::Applies => MAX_REPLACED,
            Limit::Lifted => usize::MAX,
        },
        errors: Problems::default(),
    };
    if let Value::Object(sections) = &mut replaced {
        for section in REFERENCABLE {
            if let Some(value) = sections.get_mut(section) {
                replacing.below(value, section);
            }
        }
        // A program takes nothing but texts: arguments, environment, a folder.
        if let Some(entrypoint) = sections.get_mut("entrypoint")
            && let Some(original) = root.get("entrypoint")
        {
            as_text(entrypoint, original);
        }
    }
    if replacing.errors.is_empty() {
        Ok(replaced)
    } else {
        Err(replacing.errors)
    }
}

struct Replacing<'a> {
    params: &'a Params,
    /// Bytes that values of references may still come to.
    left: usize,
    errors: Problems,
}

/// Why a text's references cannot be replaced.
enum Unreplaced {
    /// The hyperparameter has no value.
    Inactive(String),
    TooMuch,
}

impl Replacing<'_> {
    fn below(&mut self, value: &mut Value, path: &str) {
        match value {
            Value::String(text) if text.contains("${") => match self.text(text) {
                Ok(replaced) => *value = replaced,
                Err(Unreplaced::Inactive(name)) => self.errors.add(path, || {
                    format!(
                        "`{}` is inactive in the configuration {}; within a list or a longer text a reference needs a value in every configuration",
                        quoted(&name),
                        Value::Object(self.params.clone())
                    )
                }),
                Err(Unreplaced::TooMuch) => self.errors.add(path, || {
                    format!("the values of references come to more than {MAX_REPLACED} bytes of text here")
                }),
            },
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.below(item, &element(path, i));
                }
            }
            Value::Object(entries) => {
                // A field that is an inactive hyperparameter's alone takes its default.
                let params = self.params;
                entries.retain(|_, value| {
                    !value.as_str().is_some_and(|text| is_inactive(text, params))
                });
                for (key, value) in entries {
                    self.below(value, &below(path, key));
                }
            }
            _ => {}
        }
    }

    /// The string with values in place.
    fn text(&mut self, text: &str) -> Result<Value, Unreplaced> {
        let pieces = pieces(text);
        let lone = pieces
            .iter()
            .all(|piece| !matches!(piece, Piece::Text(text) if !text.is_empty()));
        let mut result = String::new();
        for piece in &pieces {
            match piece {
                Piece::Text(text) => result.push_str(text),
                Piece::Open => result.push_str("${"),
                Piece::Reference(name) => {
                    let value = self.params.get(*name);
                    let value = value.ok_or_else(|| Unreplaced::Inactive((*name).to_owned()))?;
                    // One reference and two empty texts around it.
                    if lone && pieces.len() == 3 {
                        self.spend(value.as_str().map_or(0, str::len))?;
                        return Ok(value.clone());
                    }
                    match value {
                        Value::String(word) => {
                            self.spend(word.len())?;
                            result.push_str(word);
                        }
                        other => {
                            let word = other.to_string();
                            self.spend(word.len())?;
                            result.push_str(&word);
                        }
                    }
                }
            }
        }
        Ok(Value::String(result))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Unreplaced> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(Unreplaced::TooMuch)?;
        Ok(())
    }
}

/// Whether a string is one reference to a hyperparameter that the configuration does not have.
fn is_inactive(text: &str, params: &Params) -> bool {
    match pieces(text).as_slice() {
        [Piece::Text(""), Piece::Reference(name), Piece::Text("")] => !params.contains_key(*name),
        _ => false,
    }
}

/// Makes texts of the values that stand for references.
fn as_text(replaced: &mut Value, original: &Value) {
    match (replaced, original) {
        (value @ (Value::Number(_) | Value::Bool(_)), Value::String(_)) => {
            *value = Value::String(value.to_string());
        }
        (Value::Array(items), Value::Array(originals)) => {
            for (item, original) in items.iter_mut().zip(originals) {
                as_text(item, original);
            }
        }
        (Value::Object(entries), Value::Object(originals)) => {
            for (key, value) in entries {
                as_text(value, &originals[key.as_str()]);
            }
        }
        _ => {}
    }
}

/// Puts the references of `original` over the values that stand for them in `resolved`.
pub(super) fn keep(resolved: &mut Value, original: &Value) {
    match (resolved, original) {
        (place, Value::String(text)) if text.contains("${") => *place = original.clone(),
        (Value::Array(items), Value::Array(originals)) => {
            for (item, original) in items.iter_mut().zip(originals) {
                keep(item, original);
            }
        }
        (Value::Object(entries), Value::Object(originals)) => {
            for (key, original) in originals {
                match entries.get_mut(key) {
                    Some(value) => keep(value, original),
                    // Inactive in the first configuration, and without a default that is written out.
                    None if original.as_str().is_some_and(is_in) => {
                        entries.insert(key.clone(), original.clone());
                    }
                    None => {}
                }
            }
        }
        _ => {}
    }
}
