//! Calls between files that extend one type: what its methods call of each other, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::circles::Graph;
use crate::tokens::{Token, product};

/// Which file's methods of `of` call which other file's.
pub(crate) fn calls(files: &BTreeMap<String, PathBuf>, of: &str) -> Graph {
    let texts: BTreeMap<&String, Vec<Token>> = files
        .iter()
        .map(|(name, file)| (name, product(&read(file))))
        .collect();
    let mut defined: BTreeMap<&str, &String> = BTreeMap::new();
    for (name, tokens) in &texts {
        for method in methods(tokens, of) {
            defined.insert(method, name);
        }
    }
    let mut graph: Graph = files
        .keys()
        .map(|name| (name.clone(), BTreeMap::new()))
        .collect();
    for (name, tokens) in &texts {
        for call in tokens.windows(4) {
            let on_it = call[0].is("self") || call[0].is("machine");
            if !(on_it && call[1].is(".") && call[3].is("(")) {
                continue;
            }
            let Some(home) = defined.get(call[2].text.as_str()) else {
                continue;
            };
            if home != name {
                let place = format!(
                    "{}:{} calls {}",
                    files[*name].display(),
                    call[2].line,
                    call[2].text
                );
                let uses = graph.entry((*name).clone()).or_default();
                uses.entry((*home).clone()).or_insert(place);
            }
        }
    }
    graph
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("the file can be read")
}

/// The names of the functions in `impl OF { ... }`.
fn methods<'a>(tokens: &'a [Token], of: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 2 < tokens.len() {
        let opens = tokens[at].is("impl") && tokens[at + 1].is(of) && tokens[at + 2].is("{");
        at += 1;
        if !opens {
            continue;
        }
        let mut depth = 1;
        at += 2;
        while depth > 0 && at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "fn" if depth == 1 => found.push(tokens[at + 1].text.as_str()),
                _ => {}
            }
            at += 1;
        }
    }
    found
}
