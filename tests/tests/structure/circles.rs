//! Circles in a graph of names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Who uses whom, and where.
pub(crate) type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// The sets of nodes that reach each other, each with one shortest circle in it.
pub(crate) fn circles(graph: &Graph) -> Vec<(BTreeSet<String>, Vec<String>)> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = graph
        .keys()
        .map(|node| (node, reachable(graph, node)))
        .collect();
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    let mut found = Vec::new();
    for (node, from) in &reach {
        if seen.contains(*node) || !from.contains(*node) {
            continue;
        }
        let back = |other: &&&String| reach.get(**other).is_some_and(|r| r.contains(*node));
        let members: BTreeSet<&String> = from.iter().filter(back).copied().collect();
        seen.extend(&members);
        let names = members.into_iter().cloned().collect();
        found.push((names, shortest(graph, node)));
    }
    found
}

fn reachable<'a>(graph: &'a Graph, node: &'a String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = graph[node].keys().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(graph.get(next).into_iter().flat_map(BTreeMap::keys));
        }
    }
    found
}

/// The shortest way from a node back to itself, told step by step.
fn shortest(graph: &Graph, node: &String) -> Vec<String> {
    let mut before: BTreeMap<&String, &String> = BTreeMap::new();
    let mut open = VecDeque::from([node]);
    while let Some(at) = open.pop_front() {
        for next in graph.get(at).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next) {
                before.insert(next, at);
                open.push_back(next);
            }
        }
    }
    let mut told = Vec::new();
    let mut at = node;
    while let Some(from) = before.get(at) {
        told.push(format!("{from} uses {at}: {}", graph[*from][at]));
        at = from;
        if at == node {
            break;
        }
    }
    told.reverse();
    told
}

#[test]
fn circles_are_found_and_told() {
    let edge = |to: &str| (to.to_owned(), format!("at {to}"));
    let graph: Graph = [
        ("a".to_owned(), BTreeMap::from([edge("b")])),
        ("b".to_owned(), BTreeMap::from([edge("c"), edge("d")])),
        ("c".to_owned(), BTreeMap::from([edge("a")])),
        ("d".to_owned(), BTreeMap::new()),
    ]
    .into();
    let found = circles(&graph);
    assert_eq!(found.len(), 1);
    let names: Vec<&str> = found[0].0.iter().map(String::as_str).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(
        found[0].1,
        ["a uses b: at b", "b uses c: at c", "c uses a: at a"]
    );
}
