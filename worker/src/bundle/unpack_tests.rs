//! Bundles that are well made, hostile and torn.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::*;

/// An entry with a name that no archiver would write.
fn raw(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], target: &[u8], data: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name);
    fields.linkname[..target.len()].copy_from_slice(target);
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

fn file(builder: &mut Builder<Vec<u8>>, name: &str, data: &[u8]) {
    raw(builder, EntryType::Regular, name.as_bytes(), b"", data);
}

fn zipped(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// What became of a packed bundle in an otherwise empty folder, in which nothing else may be.
fn unpacked(packed: &[u8]) -> (Result<Unpacked, String>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(packed).unwrap();
    let done = unpack(file, &folder.path().join("code"), &AtomicU64::new(0));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), usize::from(done.is_ok()), "{left:?}");
    (done, folder)
}

fn refused(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> String {
    let mut builder = Builder::new(Vec::new());
    build(&mut builder);
    unpacked(&zipped(&builder.into_inner().unwrap()))
        .0
        .unwrap_err()
}

fn good() -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    raw(&mut builder, EntryType::Directory, b"a/", b"", b"");
    raw(&mut builder, EntryType::Directory, b"a/empty/", b"", b"");
    file(&mut builder, "a/file", &[b'x'; 200_000]);
    raw(&mut builder, EntryType::Symlink, b"a/link", b"../top", b"");
    file(&mut builder, "none", b"");
    file(&mut builder, "top", b"top");
    zipped(&builder.into_inner().unwrap())
}

#[test]
fn files_links_and_empty_folders_come_back() {
    let (done, folder) = unpacked(&good());
    let done = done.unwrap();
    assert_eq!((done.files, done.bytes), (5, 200_003));
    let code = folder.path().join("code");
    assert_eq!(std::fs::read(code.join("a/file")).unwrap().len(), 200_000);
    assert_eq!(std::fs::read(code.join("a/link")).unwrap(), b"top");
    assert!(code.join("a/empty").is_dir());
    assert_eq!(std::fs::read(code.join("none")).unwrap(), b"");
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let names: [&[u8]; 6] = [b"/etc/x", b"../x", b"a/../../x", b"a//x", b"./x", b"a/./x"];
    for name in names {
        let why = refused(|b| raw(b, EntryType::Regular, name, b"", b"x"));
        assert!(why.contains("refused"), "{why}");
    }
    let targets: [&[u8]; 5] = [b"/etc/passwd", b"..", b"../x", b"b/../../x", b""];
    for target in targets {
        let why = refused(|b| raw(b, EntryType::Symlink, b"a", target, b""));
        assert!(why.contains("the link \"a\" leads to"), "{why}");
    }
    let kinds = [
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::new(b'?'),
    ];
    for kind in kinds {
        let why = refused(|b| raw(b, kind, b"a", b"b", b""));
        assert!(
            why.contains("accepted are files, folders"),
            "{kind:?}: {why}"
        );
    }
    // Its header does not even say how long it is.
    refused(|b| raw(b, EntryType::GNUSparse, b"a", b"", b""));
}

#[test]
fn nothing_is_written_through_a_link() {
    let why = refused(|b| {
        raw(b, EntryType::Symlink, b"a", b"b", b"");
        file(b, "a/x", b"x");
        file(b, "b", b"x");
    });
    assert!(why.contains("lies below a file, a link"), "{why}");
    for second in [EntryType::Regular, EntryType::Symlink, EntryType::Directory] {
        let why = refused(|b| {
            raw(b, EntryType::Symlink, b"a", b"b", b"");
            raw(b, second, b"a", b"c", b"");
        });
        assert!(why.contains("there is one of each"), "{why}");
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_written() {
    let why = refused(|b| {
        let mut header = Header::new_gnu();
        header.set_path("bomb").unwrap();
        header.set_size(MAX_UNPACKED_BYTES + 1);
        header.set_cksum();
        b.append(&header, std::io::empty()).unwrap();
    });
    assert!(why.contains("more than 1073741824 bytes"), "{why}");
    let why = refused(|b| (0..=MAX_ENTRIES).for_each(|n| file(b, &format!("{n:06}"), b"")));
    assert!(why.contains("more than 20000 files"), "{why}");
    assert!(refused(|_| {}).contains("there is nothing in it"));
}

#[test]
fn a_torn_bundle_leaves_nothing() {
    let packed = good();
    for end in (0..packed.len() - 10).step_by(7) {
        assert!(unpacked(&packed[..end]).0.is_err(), "{end}");
    }
    // However it is damaged: an error, or a folder of its own.
    for at in 0..packed.len() {
        let mut other = packed.clone();
        other[at] ^= 0x55;
        let _ = unpacked(&other);
    }
}
