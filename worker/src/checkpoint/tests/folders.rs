//! Checkpoints of programs: folders that come back as they were, share what has not changed, and write
//! nothing outside.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use trainyard_common::checkpoint::CheckpointRef;

use super::super::folder::Cutter;
use super::super::manifest::{self, Manifest};
use super::*;

/// What a folder holds, by path.
type Tree = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq)]
enum Node {
    File(Vec<u8>, bool),
    Link(String),
    Empty,
}

fn file(bytes: &[u8]) -> Node {
    Node::File(bytes.to_vec(), false)
}

fn tree(nodes: &[(&str, Node)]) -> Tree {
    let nodes = nodes.iter();
    nodes
        .map(|(path, node)| ((*path).to_owned(), node.clone()))
        .collect()
}

fn write(root: &FilePath, tree: &Tree) {
    for (path, node) in tree {
        let at = root.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        match node {
            Node::File(bytes, executable) => {
                std::fs::write(&at, bytes).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&at, PermissionsExt::from_mode(mode)).unwrap();
            }
            Node::Link(target) => symlink(target, &at).unwrap(),
            Node::Empty => std::fs::create_dir_all(&at).unwrap(),
        }
    }
}

fn read(root: &FilePath) -> Tree {
    let found = scan(root).unwrap();
    let node = |entry: &Entry| match entry {
        Entry::File {
            path, executable, ..
        } => Node::File(std::fs::read(root.join(path)).unwrap(), *executable),
        Entry::Link { target, .. } => Node::Link(target.clone()),
        Entry::Folder { .. } => Node::Empty,
    };
    found
        .iter()
        .map(|entry| (entry.path().to_owned(), node(entry)))
        .collect()
}

/// A folder on the disk that is to be saved.
struct Made {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

impl Made {
    fn of(tree: &Tree) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("made");
        std::fs::create_dir(&root).unwrap();
        write(&root, tree);
        Self {
            _folder: folder,
            root,
        }
    }

    fn snapshot(&self, step: u64) -> Arc<FolderSnapshot> {
        Arc::new(FolderSnapshot {
            root: self.root.clone(),
            entries: scan(&self.root).unwrap(),
            epoch: step / 10,
            step,
            metrics: vec![("loss".to_owned(), 0.5)],
            stored: Arc::default(),
        })
    }
}

/// A folder into which nothing but `to` may come.
struct Target {
    folder: tempfile::TempDir,
}

impl Target {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("restored")
    }

    fn names(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.folder.path()).unwrap();
        listed
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    async fn restore(
        &self,
        place: &Place,
        reference: &CheckpointRef,
    ) -> Result<Tree, CheckpointError> {
        place
            .store
            .restore(reference, &self.to(), &AtomicU64::new(0))
            .await?;
        Ok(read(&self.to()))
    }
}

/// Beside `PART` = 64 bytes: larger and smaller files, and one of exactly a part.
fn usual() -> Tree {
    tree(&[
        ("a/large.bin", file(&[1; 1_000])),
        ("a/part.bin", file(&[2; PART])),
        ("empty.txt", file(&[])),
        ("latest", Node::Link("a/large.bin".to_owned())),
        ("none", Node::Empty),
        ("run.sh", Node::File(b"#!/bin/sh\n".to_vec(), true)),
        ("tiny/1", file(b"1")),
        ("tiny/2", file(b"22")),
    ])
}

#[tokio::test]
async fn a_folder_comes_back_as_it_was() {
    for place in places("folder-round-trip") {
        let made = Made::of(&usual());
        let folder = made.snapshot(120);
        let reference = place.store.save_folder(&owner(5), &folder).await.unwrap();
        assert_eq!(reference.manifest, "trials/3/000000000120-5.json");
        assert_eq!((reference.step, reference.epoch), (120, 12));
        assert_eq!(reference.bytes, 1_000 + 64 + 10 + 3);
        assert_eq!(folder.stored.load(Ordering::Relaxed), reference.bytes);
        let target = Target::new();
        assert_eq!(target.restore(&place, &reference).await.unwrap(), usual());
        assert_eq!(target.names(), ["restored"]);
        let held = place.store.verify_ref(&reference).await.unwrap();
        assert_eq!(held, Held::Files(8));
        // Saved again it says the same; of a folder as a trainer's tensors nothing is made.
        let again = place.store.save_folder(&owner(5), &folder).await.unwrap();
        assert_eq!(again, reference);
        let error = place.store.load_ref(&reference).await.unwrap_err();
        assert!(
            matches!(error, CheckpointError::OtherKind { .. }),
            "{error}"
        );
        assert!(!error.is_corrupt() && !error.is_retryable());
        // Downloaded it lies beside its manifest, and is not written over.
        let to = Target::new();
        let written = place
            .store
            .download(&reference.manifest, &to.to())
            .await
            .unwrap();
        assert_eq!(read(&written.content), usual());
        assert_eq!(written.bytes, reference.bytes);
        let error = place
            .store
            .download(&reference.manifest, &to.to())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("there already"), "{error}");
        // Deleted, nothing is left of it.
        place.store.delete(&[reference.manifest]).await.unwrap();
        assert!(place.names().await.is_empty());
    }
}

#[tokio::test]
async fn what_has_not_changed_is_stored_once() {
    for place in places("folder-shared") {
        let made = Made::of(&usual());
        let first = place
            .store
            .save_folder(&owner(5), &made.snapshot(1))
            .await
            .unwrap();
        let parts = place.parts().await;
        // A large file before the others grows at its end, and a new one comes first of all.
        std::fs::write(made.root.join("a/large.bin"), [1; 1_010]).unwrap();
        std::fs::write(made.root.join("a/first.bin"), [9; 40]).unwrap();
        let second = place
            .store
            .save_folder(&owner(5), &made.snapshot(2))
            .await
            .unwrap();
        // The new file, and the end of the one that grew.
        assert_eq!(place.parts().await, parts + 2);
        place.store.delete(&[first.manifest]).await.unwrap();
        let restored = Target::new().restore(&place, &second).await.unwrap();
        assert_eq!(restored["a/large.bin"], file(&[1; 1_010]));
        assert_eq!(restored["a/first.bin"], file(&[9; 40]));
    }
}

/// Each way to break it is told by name, nothing is left behind, and the one before it is used.
#[tokio::test]
async fn a_broken_folder_is_not_restored() {
    for (case, expected) in [
        ("byte", "its digest is"),
        ("short", "it has 63 bytes, the manifest says 64"),
        ("gone", "it is missing"),
        ("manifest", "its digest is"),
    ] {
        for place in places(&format!("folder-broken-{case}")) {
            let made = Made::of(&usual());
            let old = place
                .store
                .save_folder(&owner(5), &made.snapshot(1))
                .await
                .unwrap();
            std::fs::write(made.root.join("a/large.bin"), [3; 1_000]).unwrap();
            let new = place
                .store
                .save_folder(&owner(5), &made.snapshot(2))
                .await
                .unwrap();
            let content = place.store.manifest(&new.manifest).await.unwrap();
            let part = content.parts[0].path.clone();
            match case {
                "byte" => place.change(&part, |bytes| bytes[9] ^= 1).await,
                "short" => place.change(&part, |bytes| bytes.truncate(63)).await,
                "gone" => place.raw.delete(&place.at(&part)).await.unwrap(),
                _ => place.change(&new.manifest, |text| text.push(b' ')).await,
            }
            let target = Target::new();
            let error = target.restore(&place, &new).await.unwrap_err();
            assert!(
                error.is_corrupt() && error.to_string().contains(expected),
                "{case}: {error}"
            );
            assert!(target.names().is_empty(), "{case}");
            assert!(place.store.verify_ref(&new).await.is_err(), "{case}");
            let moved = AtomicU64::new(0);
            let to = target.to();
            let known = [old.clone(), new.clone()];
            let newest = place.store.newest_whole(&known, async |reference| {
                place.store.restore(reference, &to, &moved).await
            });
            let newest = newest.await.unwrap();
            assert_eq!(newest.found.map(|(found, ())| found), Some(old));
            assert_eq!(newest.broken, [new.manifest]);
            assert_eq!(read(&to), usual());
        }
    }
}

#[tokio::test]
async fn a_hostile_manifest_writes_nothing_outside() {
    let place = places("folder-hostile").remove(0);
    let made = Made::of(&tree(&[("a", file(b"x"))]));
    let saved = place
        .store
        .save_folder(&owner(5), &made.snapshot(1))
        .await
        .unwrap();
    let good = place.store.manifest(&saved.manifest).await.unwrap();
    let one = |path: &str| Entry::File {
        path: path.to_owned(),
        bytes: 1,
        executable: true,
    };
    let link = |path: &str, target: &str| Entry::Link {
        path: path.to_owned(),
        target: target.to_owned(),
    };
    let target = Target::new();
    let outside = target.folder.path().join("outside").display().to_string();
    for files in [
        vec![one("../outside")],
        vec![one(&outside)],
        vec![one("a/../../outside")],
        vec![link("a", &outside), one("a/b")],
        vec![link("a", ".."), one("a/outside")],
        vec![link("a", "../outside"), one("b")],
        vec![one("b"), one("a")],
        vec![one("a"), one("b")],
    ] {
        let hostile = Manifest {
            files: Some(files),
            ..good.clone()
        };
        let text = serde_json::to_vec(&hostile).unwrap();
        let reference = CheckpointRef {
            digest: blake3::hash(&text).to_hex().to_string(),
            ..saved.clone()
        };
        place
            .raw
            .put(&place.at(&saved.manifest), text.into())
            .await
            .unwrap();
        let error = target.restore(&place, &reference).await.unwrap_err();
        assert!(error.is_corrupt(), "{error}");
        assert!(target.names().is_empty(), "{:?}", target.names());
    }
}

/// What an older program does with a newer manifest, and this one with an older.
#[test]
fn formats_are_told_apart() {
    let name = "trials/3/000000000120-5.json";
    let text = |format: u64, files: &str| {
        format!(
            r#"{{"format": {format}, "job": "j", "trial": 3, "attempt": 5, "generation": 5, "step": 120,
                "epoch": 12, "metrics": [], "state": null, "tensor_bytes": 0, "parts": []{files}}}"#
        )
    };
    let parse = |text: &str| Manifest::parse("memory://x", name, text.as_bytes());
    let files = r#", "files": [{"file": {"path": "a", "bytes": 0}}]"#;
    assert_eq!(parse(&text(1, "")).unwrap().files, None);
    assert!(parse(&text(2, files)).unwrap().files.is_some());
    for (text, why) in [
        (text(1, files), "its format is 1 and it has `files`"),
        (text(2, ""), "its format is 2 and it has no `files`"),
        (text(3, files), "has format 3; this program reads up to 2"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(manifest::FORMAT, 2);
}

#[test]
fn what_no_checkpoint_may_hold_is_named() {
    let made = Made::of(&tree(&[("a", file(b"x"))]));
    let refused = |why: &str| {
        let told = scan(&made.root).unwrap_err();
        assert!(told.contains(why), "{told}");
    };
    let at = made.root.join("b");
    symlink("/etc/passwd", &at).unwrap();
    refused("leads to \"/etc/passwd\"");
    std::fs::remove_file(&at).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&at).unwrap();
    refused("is a socket");
    drop(listener);
    std::fs::remove_file(&at).unwrap();
    std::fs::remove_file(made.root.join("a")).unwrap();
    refused("nothing in it");
    use std::os::unix::ffi::OsStrExt as _;
    std::fs::write(made.root.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    refused("not UTF-8");
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_told() {
    let place = places("folder-changes").remove(0);
    for bytes in [999, 1_001] {
        let made = Made::of(&usual());
        let folder = made.snapshot(1);
        std::fs::write(made.root.join("a/large.bin"), vec![1; bytes]).unwrap();
        let error = place
            .store
            .save_folder(&owner(5), &folder)
            .await
            .unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert!(
            error.to_string().contains("its length has changed"),
            "{error}"
        );
        assert!(place.store.manifests(TrialId(3)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_gets_it_all_the_same() {
    let faulty = Arc::new(Faulty::new());
    let place = over(&faulty);
    faulty.failures.store(2, Ordering::SeqCst);
    let made = Made::of(&usual());
    let root = made.root.clone();
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let retry = Retry {
        attempts: 4,
        first_wait: Duration::from_millis(1),
    };
    let runtime = tokio::runtime::Handle::current();
    let uploader = Uploader::start_with(
        &runtime,
        place.store.clone(),
        owner(5),
        retry,
        move |result| {
            drop(said.send(result));
        },
    );
    let folder = Arc::into_inner(made.snapshot(7)).unwrap();
    assert!(
        uploader
            .submit_folder_unless(folder, std::future::pending())
            .await
    );
    uploader.finished().await;
    let saved = heard.recv().await.unwrap().unwrap();
    assert_eq!(
        Target::new().restore(&place, &saved).await.unwrap(),
        usual()
    );
    assert!(!root.exists(), "what was handed over is removed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any tree comes back; parts are cut the same wherever they are cut from, none is too large, and
    /// together they are the files.
    #[test]
    fn any_tree_comes_back(
        made in prop::collection::btree_map("[abc](/[de]){0,2}", 0usize..200, 1..12),
        part_bytes in 1usize..100,
    ) {
        let mut tree = Tree::new();
        for (path, bytes) in made {
            let below = |known: &String| {
                known.starts_with(&format!("{path}/")) || path.starts_with(&format!("{known}/"))
            };
            if !tree.keys().any(below) {
                tree.insert(path, Node::File((0..bytes).map(|i| i as u8).collect(), bytes % 2 == 0));
            }
        }
        let made = Made::of(&tree);
        let mut cutter = Cutter::new(made.snapshot(1), part_bytes);
        let mut all = Vec::new();
        while let Some(part) = cutter.next().unwrap() {
            prop_assert!(!part.is_empty() && part.len() <= part_bytes);
            all.extend(part);
        }
        let contents: Vec<u8> = tree.values().flat_map(|node| match node {
            Node::File(bytes, _) => bytes.clone(),
            _ => Vec::new(),
        }).collect();
        prop_assert_eq!(&all, &contents);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let restored = runtime.block_on(async {
            let (raw, prefix) = (Arc::new(InMemory::new()), Path::from("job"));
            let store = CheckpointStore::over(raw, prefix, "memory://any").with_part_bytes(part_bytes);
            let saved = store.save_folder(&owner(5), &made.snapshot(1)).await.unwrap();
            let target = Target::new();
            store.restore(&saved, &target.to(), &AtomicU64::new(0)).await.unwrap();
            read(&target.to())
        });
        prop_assert_eq!(restored, tree);
    }
}
