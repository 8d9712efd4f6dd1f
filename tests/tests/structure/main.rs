//! The order of the house: rooms that know each other one way, and files that fit on some screens.
//!
//! Product code alone; tests may look at everything. Both rules have a list of what does not keep to them
//! yet. It may only shrink: what is mended must leave it.

mod calls;
mod circles;
mod modules;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use circles::{Graph, circles};
use modules::{Crate, Edge, Place};

/// The crates, and where their sources lie.
const CRATES: [(&str, &str); 8] = [
    ("proto", "proto/src"),
    ("common", "common/src"),
    ("search", "coordinator/search/src"),
    ("coordinator", "coordinator/src"),
    ("worker", "worker/src"),
    ("network", "worker/network/src"),
    ("coordinatorctl", "coordinatorctl/src"),
    ("tests", "tests/src"),
];

/// Rooms of one parent that know each other in a circle: the parent, and the rooms.
const CIRCLES: &[(&str, &[&str])] = &[
    ("common", &["space", "spec"]),
    (
        "tests::simulation",
        &[
            "clients",
            "compare",
            "coordinator",
            "decisions",
            "follow",
            "jobs",
            "kinds",
            "leaving",
            "network",
            "perform",
            "plan",
            "rank",
            "readers",
            "rule",
            "searches",
            "sightings",
            "store",
            "strangers",
            "thinking",
            "training",
            "turn",
            "worker",
            "world",
        ],
    ),
    ("worker::data", &["part", "samples", "scaling"]),
];

/// Files with more lines of product code than [`MOST_LINES`], and how many they may have.
const LONG_FILES: &[(&str, usize)] = &[];

/// A file that is longer is cut along its seams.
const MOST_LINES: usize = 500;

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace").to_owned()
}

fn read() -> Vec<Crate> {
    let crates = CRATES.map(|(name, source)| Crate::read(name, &root().join(source)));
    for of in &crates {
        assert!(
            of.modules.contains_key(&Place::new()),
            "{} has no root",
            of.name
        );
    }
    crates.into()
}

fn told(edge: &Edge) -> String {
    let file = edge.file.strip_prefix(root()).unwrap_or(&edge.file);
    format!("{}:{}", file.display(), edge.line)
}

/// Which of a parent's rooms use which others, whatever lies in them.
fn rooms(edges: &BTreeSet<Edge>, parent: &Place) -> Graph {
    let depth = parent.len();
    let mut graph = Graph::new();
    for edge in edges {
        let inside = edge.from.starts_with(parent) && edge.to.starts_with(parent);
        let (Some(from), Some(to)) = (edge.from.get(depth), edge.to.get(depth)) else {
            continue;
        };
        if inside && from != to {
            let uses = graph.entry(from.clone()).or_default();
            uses.entry(to.clone()).or_insert_with(|| told(edge));
            graph.entry(to.clone()).or_default();
        }
    }
    graph
}

#[test]
fn rooms_know_each_other_one_way() {
    let mut wrong = Vec::new();
    let mut left: BTreeSet<(String, BTreeSet<String>)> = CIRCLES
        .iter()
        .map(|(parent, rooms)| {
            let rooms = rooms.iter().map(|room| (*room).to_owned()).collect();
            ((*parent).to_owned(), rooms)
        })
        .collect();
    for of in read() {
        let edges = of.edges();
        let below = |place: &Place| place[..place.len() - 1].to_vec();
        let parents: BTreeSet<Place> = of
            .modules
            .keys()
            .filter(|place| !place.is_empty())
            .map(below)
            .collect();
        for parent in parents {
            let name = [vec![of.name.clone()], parent.clone()].concat().join("::");
            for (members, way) in circles(&rooms(&edges, &parent)) {
                if !left.remove(&(name.clone(), members.clone())) {
                    wrong.push(format!("{name}: {members:?}\n    {}", way.join("\n    ")));
                }
            }
        }
    }
    let gone: Vec<String> = left.iter().map(|circle| format!("{circle:?}")).collect();
    assert!(wrong.is_empty(), "rooms in circles:\n{}", wrong.join("\n"));
    assert!(
        gone.is_empty(),
        "no longer so, take it off CIRCLES:\n{}",
        gone.join("\n")
    );
}

/// The machine's files, by their place.
fn machine() -> (Crate, BTreeMap<String, PathBuf>) {
    let mut all = read();
    let place = all.iter().position(|of| of.name == "coordinator");
    let of = all.remove(place.expect("it is among the crates"));
    let files = of
        .modules
        .iter()
        .filter(|(place, _)| place.first().is_some_and(|p| p == "cluster"));
    let files: BTreeMap<String, PathBuf> = files
        .map(|(place, module)| (place.join("::"), module.file.clone()))
        .collect();
    assert!(files.len() > 30, "{files:?}");
    (of, files)
}

#[test]
fn the_files_of_the_machine_import_each_other_one_way() {
    let (of, files) = machine();
    let mut graph = Graph::new();
    // A room's first file only lays out what lies in it.
    for edge in of.edges().iter().filter(|edge| !edge.reexport) {
        let (from, to) = (edge.from.join("::"), edge.to.join("::"));
        if files.contains_key(&from) && files.contains_key(&to) {
            graph.entry(to.clone()).or_default();
            graph
                .entry(from)
                .or_default()
                .entry(to)
                .or_insert_with(|| told(edge));
        }
    }
    let found: Vec<String> = circles(&graph)
        .into_iter()
        .map(|(_, way)| way.join("\n"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

/// Methods need no import: `impl Machine` in each of many files would hide a circle.
#[test]
fn the_files_of_the_machine_call_each_other_one_way() {
    let (_, files) = machine();
    let graph = calls::calls(&files, "Machine");
    let known: usize = graph.values().map(BTreeMap::len).sum();
    assert!(known > 50, "{known} calls");
    let found: Vec<String> = circles(&graph)
        .into_iter()
        .map(|(_, way)| way.join("\n"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

#[test]
fn no_file_is_too_long() {
    let mut allowed: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let mut wrong = Vec::new();
    for of in read().iter().filter(|of| of.name != "tests") {
        for module in of.modules.values() {
            let text = std::fs::read_to_string(&module.file).unwrap();
            let file = module.file.strip_prefix(root()).unwrap().to_str().unwrap();
            let lines = product_lines(&text);
            let listed = allowed.remove(file);
            match listed {
                None if lines > MOST_LINES => {
                    wrong.push(format!("{file} has {lines} lines, at most {MOST_LINES}"));
                }
                Some(most) if lines > most => {
                    wrong.push(format!("{file} has grown to {lines} lines from {most}"));
                }
                Some(_) if lines <= MOST_LINES => {
                    wrong.push(format!("{file} has {lines} lines: take it off LONG_FILES"));
                }
                _ => {}
            }
        }
    }
    wrong.extend(
        allowed
            .keys()
            .map(|file| format!("{file} is gone: take it off LONG_FILES")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines before a file's own tests.
fn product_lines(text: &str) -> usize {
    let tests = |line: &&str| line.trim_end() == "#[cfg(test)]";
    let lines: Vec<&str> = text.lines().collect();
    // What is marked so and followed by a module with a body is the last thing in a file.
    let mut marks = (0..lines.len()).filter(|at| tests(&lines[*at]));
    let body = |at: &usize| {
        let next = lines.get(at + 1);
        next.is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
    };
    marks.find(body).unwrap_or(lines.len())
}
