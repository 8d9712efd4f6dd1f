//! Folders packed, and unpacked as a worker does it.

use std::collections::BTreeMap;
use std::io::Seek as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::AtomicU64;

use trainyard_common::bundle::MAX_UNPACKED_BYTES;
use trainyard_worker::bundle::unpack;

use super::*;

/// A folder packed, and what of it.
#[derive(Debug)]
struct Shipped {
    listed: Listed,
    packed: Packed,
}

fn pack(root: &Path, exclude: &[String]) -> Result<Shipped, String> {
    let listed = Listed::of(root, exclude)?;
    let packed = super::pack(&listed)?;
    Ok(Shipped { listed, packed })
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(folder.path(), name, text);
    }
    folder
}

/// What a worker finds in a bundle: files' contents, links' targets, `/` for a folder with nothing in it.
fn arrived(shipped: &Shipped) -> BTreeMap<String, String> {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("code");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&shipped.packed.bytes).unwrap();
    file.rewind().unwrap();
    let unpacked = unpack(file, &to, &AtomicU64::new(0)).unwrap();
    assert_eq!(
        (unpacked.files, unpacked.bytes),
        (shipped.listed.entries.len(), shipped.listed.bytes)
    );
    let all = Listed::of(&to, &["!*".to_owned()]).unwrap().entries;
    let content = |entry: &Entry| match entry {
        Entry::File { path, .. } => std::fs::read_to_string(to.join(path)).unwrap(),
        Entry::Link { target, .. } => format!("-> {target}"),
        Entry::Folder { .. } => "/".to_owned(),
    };
    let all = all
        .iter()
        .map(|entry| (entry.path().to_owned(), content(entry)));
    all.collect()
}

#[test]
fn the_same_content_is_the_same_bundle() {
    let files = [
        ("b/train.py", "x = 1"),
        ("a", ""),
        ("b-c", "y"),
        ("b/data/one", "1"),
    ];
    let one = folder(&files);
    let mut reversed = files;
    reversed.reverse();
    let two = folder(&reversed);
    let file = File::options()
        .write(true)
        .open(two.path().join("a"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::set_permissions(two.path().join("a"), PermissionsExt::from_mode(0o600)).unwrap();
    let packed = |folder: &tempfile::TempDir| pack(folder.path(), &[]).unwrap();
    assert_eq!(packed(&one).packed.bytes, packed(&two).packed.bytes);
    let listed = packed(&one).listed;
    assert_eq!((listed.entries.len(), listed.bytes), (4, 7));
    let found = arrived(&packed(&one));
    let expected = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(found, BTreeMap::from(expected));
    // Whether it can be executed is content.
    std::fs::set_permissions(two.path().join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_ne!(packed(&one).packed.digest, packed(&two).packed.digest);
}

#[test]
fn links_empty_folders_and_long_names_come_along() {
    let deep = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let folder = folder(&[("lib/a.py", "a"), (&deep, "long")]);
    let root = folder.path();
    std::fs::create_dir(root.join("out")).unwrap();
    symlink("lib/a.py", root.join("link")).unwrap();
    symlink("..", root.join("lib/up")).unwrap();
    let found = arrived(&pack(root, &[]).unwrap());
    assert_eq!(found["out"], "/");
    assert_eq!(found["link"], "-> lib/a.py");
    assert_eq!(found["lib/up"], "-> ..");
    assert_eq!(found[&deep], "long");
}

#[test]
fn what_leads_out_of_the_folder_is_named() {
    for (target, told) in [
        ("/etc/passwd", "an absolute path"),
        ("../other", "which lies outside"),
        ("lib/../../other", "which lies outside"),
        ("lib/../train.py", "by a way that is not followed"),
    ] {
        let folder = folder(&[("train.py", ""), ("lib/a", "")]);
        symlink(target, folder.path().join("away")).unwrap();
        let why = pack(folder.path(), &[]).unwrap_err();
        assert!(
            why.contains(&format!("\"away\" leads to {target:?}")) && why.contains(told),
            "{why}"
        );
        assert!(
            why.contains(".trainyardignore") && why.contains("copy what is meant"),
            "{why}"
        );
        pack(folder.path(), &["away".to_owned()]).unwrap();
    }
    let folder = folder(&[("train.py", "")]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("ipc")).unwrap();
    let why = pack(folder.path(), &[]).unwrap_err();
    assert!(why.contains("ipc is neither a file"), "{why}");
    let why = pack(&folder.path().join("train.py"), &[]).unwrap_err();
    assert!(why.contains("is no folder"), "{why}");
    let why = pack(&folder.path().join("none"), &[]).unwrap_err();
    assert!(why.contains("none: No such file"), "{why}");
}

#[test]
fn what_is_excluded_stays_behind() {
    let folder = folder(&[
        ("train.py", ""),
        (".git/config", ""),
        ("lib/__pycache__/a.pyc", ""),
        ("lib/a.pyc", ""),
        ("lib/a.py", ""),
        ("node_modules/x", ""),
        ("envs/mine/pyvenv.cfg", ""),
        ("envs/mine/bin/python", ""),
        ("trainyard-data/state.redb", ""),
        ("data/big.csv", ""),
        ("data/small.csv", ""),
        ("notes.txt", ""),
        (".trainyardignore", "# mine\n/data/*\n!/data/small.csv\n"),
        (".env", ""),
    ]);
    let exclude = ["*.txt", ".env"].map(str::to_owned);
    let found = arrived(&pack(folder.path(), &exclude).unwrap());
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["data/small.csv", "envs", "lib/a.py", "train.py"]);
    // The last line decides, also about the usual.
    let exclude = ["!*.pyc", "!__pycache__/"].map(str::to_owned);
    let found = arrived(&pack(folder.path(), &exclude).unwrap());
    assert!(found.contains_key("lib/__pycache__/a.pyc"), "{found:?}");
    let why = pack(folder.path(), &["a[".to_owned()]).unwrap_err();
    assert!(
        why.contains("entrypoint.exclude: \"a[\" has a `[` without its end"),
        "{why}"
    );
    let why = pack(folder.path(), &["*".to_owned()]).unwrap_err();
    assert!(why.contains("there is nothing in it"), "{why}");
}

#[test]
fn what_is_too_much_is_named_with_the_way_out() {
    let folder = folder(&[("train.py", "")]);
    let large = File::create(folder.path().join("large.bin")).unwrap();
    large.set_len(MAX_UNPACKED_BYTES + 1).unwrap();
    let why = pack(folder.path(), &[]).unwrap_err();
    assert!(
        why.contains("large.bin (1.0 GiB)") && why.contains(".trainyardignore"),
        "{why}"
    );
    pack(folder.path(), &["large.bin".to_owned()]).unwrap();
}

#[test]
fn names_that_are_no_text_may_be_excluded() {
    use std::os::unix::ffi::OsStringExt as _;
    let folder = folder(&[("train.py", ""), ("data/a.csv", "")]);
    let odd = |name: &[u8]| std::ffi::OsString::from_vec(name.to_vec());
    std::fs::write(folder.path().join(odd(b"r\xe9sum\xe9.txt")), "").unwrap();
    let inner = folder.path().join(odd(b"\xff"));
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("x"), "").unwrap();
    let why = pack(folder.path(), &["*.txt".to_owned()]).unwrap_err();
    assert!(
        why.contains("\\xFF\" has a name that is not UTF-8"),
        "{why}"
    );
    for exclude in [["r?sum?.txt", "/?"], ["*", "!*.py"]] {
        let found = arrived(&pack(folder.path(), &exclude.map(str::to_owned)).unwrap());
        assert!(found.contains_key("train.py"), "{found:?}");
    }
}

#[test]
fn what_is_no_file_of_lines_is_refused_and_not_waited_for() {
    let folder = folder(&[("train.py", "")]);
    let own = folder.path().join(".trainyardignore");
    let pipe = std::process::Command::new("mkfifo").arg(&own).status();
    assert!(pipe.unwrap().success());
    let refused = |told: &str| {
        let why = pack(folder.path(), &[]).unwrap_err();
        assert!(
            why.contains(".trainyardignore") && why.contains(told),
            "{why}"
        );
        std::fs::remove_file(&own).unwrap();
    };
    refused("is no file");
    symlink("/dev/zero", &own).unwrap();
    refused("is no file");
    std::fs::write(&own, [0xff]).unwrap();
    refused("UTF-8");
    std::fs::write(&own, "a\n".repeat(1 << 20)).unwrap();
    refused("more than 1048576 bytes");
    std::fs::create_dir(&own).unwrap();
    let why = pack(folder.path(), &[]).unwrap_err();
    assert!(why.contains("is no file"), "{why}");
}
