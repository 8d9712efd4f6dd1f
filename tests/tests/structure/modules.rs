//! The modules of a crate, what each defines and imports, and which module a path leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::tokens::{Token, product};

/// A module's place below its crate: `["cluster", "model"]`.
pub(crate) type Place = Vec<String>;

/// A name that a module has imported, and the path that it stands for.
#[derive(Debug, Clone)]
struct Import {
    path: Vec<String>,
    line: usize,
    reexport: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    tokens: Vec<Token>,
    imports: BTreeMap<String, Import>,
    globs: Vec<Import>,
    defined: BTreeSet<String>,
    /// Paths that its code goes by, apart from its imports.
    inline: Vec<(Vec<String>, usize)>,
}

pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) modules: BTreeMap<Place, Module>,
}

/// One module's use of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    /// The names lie there for others alone.
    pub(crate) reexport: bool,
}

impl Crate {
    /// The crate whose sources lie in `source`.
    pub(crate) fn read(name: &str, source: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read_folder(source, &mut Vec::new(), &mut modules);
        modules.values_mut().for_each(Module::understand);
        Self {
            name: name.to_owned(),
            modules,
        }
    }

    /// Every use of one module by another, by import or by path.
    pub(crate) fn edges(&self) -> BTreeSet<Edge> {
        let mut found = BTreeSet::new();
        for (place, module) in &self.modules {
            let imports = module.imports.values().chain(&module.globs);
            let imports = imports.map(|import| (&import.path, import.line, import.reexport));
            let inline = module
                .inline
                .iter()
                .map(|(path, line)| (path, *line, false));
            for (path, line, reexport) in imports.chain(inline) {
                let to = self.resolve(place, path, 0);
                if let Some(to) = to.filter(|to| to != place) {
                    found.insert(Edge {
                        from: place.clone(),
                        to,
                        file: module.file.clone(),
                        line,
                        reexport,
                    });
                }
            }
        }
        found
    }

    /// The module in which a path ends, seen from a module; `None`: it leads out of the crate.
    fn resolve(&self, from: &Place, path: &[String], depth: usize) -> Option<Place> {
        // Imports that name each other in a ring are no Rust; the bound ends the search all the same.
        if depth > 16 {
            return None;
        }
        let first = path.first()?;
        let (mut place, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            name => {
                let child = [from.clone(), vec![name.to_owned()]].concat();
                if self.modules.contains_key(&child) {
                    (child, &path[1..])
                } else {
                    let import = self.modules.get(from)?.imports.get(name)?;
                    if import.path == [name.to_owned()] {
                        return None;
                    }
                    let target = self.resolve_end(from, &import.path, depth + 1)?;
                    match target {
                        End::Module(place) => (place, &path[1..]),
                        End::Item(place) => return Some(place),
                    }
                }
            }
        };
        while let Some(name) = rest.first() {
            if name == "super" {
                place.pop()?;
            } else {
                match self.member(&place, name, depth)? {
                    End::Module(inner) => place = inner,
                    End::Item(place) => return Some(place),
                }
            }
            rest = &rest[1..];
        }
        Some(place)
    }

    fn resolve_end(&self, from: &Place, path: &[String], depth: usize) -> Option<End> {
        let (last, front) = path.split_last()?;
        if front.is_empty() {
            return self.member(from, last, depth);
        }
        let place = self.resolve(from, front, depth + 1)?;
        self.member(&place, last, depth)
    }

    /// What a name means in a module.
    fn member(&self, place: &Place, name: &str, depth: usize) -> Option<End> {
        let child = [place.clone(), vec![name.to_owned()]].concat();
        if self.modules.contains_key(&child) {
            return Some(End::Module(child));
        }
        let module = self.modules.get(place)?;
        if module.defined.contains(name) || depth > 16 {
            return Some(End::Item(place.clone()));
        }
        if let Some(import) = module.imports.get(name) {
            return self.resolve_end(place, &import.path, depth + 1);
        }
        for glob in &module.globs {
            let of = self.resolve(place, &glob.path, depth + 1);
            if let Some(of) = of.filter(|of| of != place && self.has(of, name)) {
                return self.member(&of, name, depth + 1);
            }
        }
        Some(End::Item(place.clone()))
    }

    fn has(&self, place: &Place, name: &str) -> bool {
        let child = [place.clone(), vec![name.to_owned()]].concat();
        let module = self.modules.get(place);
        self.modules.contains_key(&child)
            || module.is_some_and(|m| m.defined.contains(name) || m.imports.contains_key(name))
    }
}

enum End {
    Module(Place),
    Item(Place),
}

fn read_folder(folder: &Path, place: &mut Place, modules: &mut BTreeMap<Place, Module>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of sources")
        .map(|entry| entry.expect("an entry of it").path())
        .collect();
    entries.sort();
    for path in entries {
        let stem = path
            .file_stem()
            .and_then(OsStr::to_str)
            .unwrap_or_default()
            .to_owned();
        // Tests may look at everything, and a binary is a crate of its own.
        if ["tests", "bin"].contains(&stem.as_str()) {
            continue;
        }
        if path.is_dir() {
            place.push(stem);
            read_folder(&path, place, modules);
            place.pop();
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let own = ["lib", "main", "mod"].contains(&stem.as_str());
            let mut of = place.clone();
            of.extend((!own).then_some(stem));
            let tokens = product(&std::fs::read_to_string(&path).expect("a source can be read"));
            modules.insert(
                of,
                Module {
                    file: path,
                    tokens,
                    ..Module::default()
                },
            );
        }
    }
}

const DEFINING: [&str; 9] = [
    "fn",
    "struct",
    "enum",
    "trait",
    "type",
    "const",
    "static",
    "union",
    "macro_rules",
];

impl Module {
    /// Sorts its tokens into imports, definitions and paths.
    fn understand(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        let mut at = 0;
        while at < tokens.len() {
            let token = &tokens[at];
            if token.is("use") && !tokens[at + 1].is("<") {
                let reexport = at > 0 && (tokens[at - 1].is("pub") || tokens[at - 1].is(")"));
                at = self.import(&tokens, at + 1, &mut Vec::new(), reexport);
                continue;
            }
            if DEFINING.contains(&token.text.as_str())
                && let Some(name) = tokens.get(at + 1).filter(|name| name.is_name())
            {
                self.defined.insert(name.text.clone());
            }
            let begins = token.is_name() && (at == 0 || !tokens[at - 1].is("::"));
            if begins && tokens.get(at + 1).is_some_and(|next| next.is("::")) {
                let mut path = vec![token.text.clone()];
                let mut next = at + 1;
                while tokens.get(next).is_some_and(|t| t.is("::"))
                    && let Some(name) = tokens.get(next + 1).filter(|t| t.is_name())
                {
                    path.push(name.text.clone());
                    next += 2;
                }
                self.inline.push((path, token.line));
            }
            at += 1;
        }
    }

    /// Takes in a tree of imports; says where it ends.
    fn import(
        &mut self,
        tokens: &[Token],
        mut at: usize,
        before: &mut Vec<String>,
        reexport: bool,
    ) -> usize {
        let depth = before.len();
        let line = tokens[at].line;
        let import = |path: Vec<String>| Import {
            path,
            line,
            reexport,
        };
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.text.as_str() {
                "{" => {
                    while !tokens[at].is("}") {
                        at = self.import(tokens, at, before, reexport);
                        if tokens[at].is(",") {
                            at += 1;
                        }
                    }
                    before.truncate(depth);
                    return at + 1;
                }
                "*" => {
                    self.globs.push(import(before.clone()));
                    before.truncate(depth);
                    return at;
                }
                "::" => {}
                ";" | "," | "}" => {
                    at -= 1;
                    break;
                }
                "as" => {
                    let name = tokens[at].text.clone();
                    self.imports.insert(name, import(plain(before)));
                    before.truncate(depth);
                    return at + 1;
                }
                name => before.push(name.to_owned()),
            }
        }
        if before.len() > depth {
            let path = plain(before);
            if let Some(name) = path.last().cloned() {
                self.imports.insert(name, import(path));
            }
        }
        before.truncate(depth);
        at
    }
}

/// `a::b::self` is `a::b`.
fn plain(path: &[String]) -> Vec<String> {
    let mut path = path.to_vec();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    path
}

#[test]
fn paths_are_followed_to_where_things_are_defined() {
    let texts = [
        ("", "mod a; mod b;"),
        ("a", "mod x; mod y; pub use x::Thing;"),
        ("a::x", "use crate::b::Other; pub struct Thing;"),
        ("a::y", "use super::*; pub fn go() {}"),
        (
            "b",
            "use crate::a::{self, Thing as T}; pub struct Other;\n\
             fn f() -> impl Iterator<Item = T> + use<> { std::mem::take(1); a::y::go() }",
        ),
    ];
    let module = |(place, text): (&str, &str)| {
        let place: Place = place.split("::").map(str::to_owned).collect();
        let place = place.into_iter().filter(|part| !part.is_empty()).collect();
        let mut module = Module {
            tokens: product(text),
            ..Module::default()
        };
        module.understand();
        (place, module)
    };
    let of = Crate {
        name: "c".to_owned(),
        modules: texts.into_iter().map(module).collect(),
    };
    let edges = of.edges().into_iter();
    let edges = edges.map(|e| (e.from.join("::"), e.to.join("::"), e.reexport));
    let edges: BTreeSet<(String, String, bool)> = edges.collect();
    let expected = [
        ("a", "a::x", true),
        ("a::x", "b", false),
        ("a::y", "a", false),
        ("b", "a", false),
        ("b", "a::x", false),
        ("b", "a::y", false),
    ];
    let expected = expected.map(|(from, to, again)| (from.to_owned(), to.to_owned(), again));
    assert_eq!(edges, expected.into());
}
