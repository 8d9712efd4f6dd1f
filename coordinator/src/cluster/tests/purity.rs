//! The modules that decide own no clock, no network and no store.

use std::path::{Path, PathBuf};

fn sources(of: &Path, found: &mut Vec<PathBuf>) {
    if of.is_file() {
        found.push(of.to_owned());
        return;
    }
    for entry in std::fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|kind| kind == "rs") {
            sources(&path, found);
        }
    }
}

#[test]
fn pure_modules_import_no_runtime_clock_or_store() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let pure = [
        "cluster",
        "placement.rs",
        "placement",
        "../search/src",
        "../../common/src/network",
        "../../worker/network/src/program",
    ];
    for module in pure {
        sources(&root.join(module), &mut files);
    }
    assert!(files.len() > 15, "{files:?}");
    // In two halves, so that this file passes its own test.
    let banned = [
        ("tok", "io::"),
        ("ton", "ic::"),
        ("re", "db::"),
        ("object_", "store::"),
        ("trainyard_", "proto"),
        ("Instant::", "now"),
        ("time::Ins", "tant"),
        ("System", "Time"),
        // Addresses as values are in `core::net`, which opens nothing.
        ("std::", "net"),
        ("crate::", "store"),
        ("crate::", "grpc"),
        ("crate::", "driver"),
    ];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (first, second) in banned {
            let word = format!("{first}{second}");
            assert!(!text.contains(&word), "{} uses {word}", file.display());
        }
    }
}
