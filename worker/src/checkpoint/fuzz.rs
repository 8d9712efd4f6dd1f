//! What is read back from a store, as nobody would have written it.

use trainyard_common::ids::{Generation, TrialId};
use trainyard_fuzz::Target;

use super::listing::{self, Entry};
use super::manifest::{self, Manifest};
use super::restore::Unpacker;
use super::{CheckpointError, codec};

/// Of the manifests that are kept.
const NAME: &str = "trials/3/000000000120-5.json";

#[test]
fn manifest() {
    let read = |input: &[u8]| match Manifest::parse("memory://fuzz", NAME, input) {
        Ok(manifest) => {
            let folder = format!("{}/5/", manifest::parts_folder(TrialId(3)));
            for part in &manifest.parts {
                let digest = part.path.strip_prefix(&folder).expect("its own folder");
                assert!(digest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                let generation = manifest::part_generation(TrialId(3), &part.path);
                assert_eq!(generation, Some(Generation(5)));
            }
            assert!(manifest.content_bytes() <= manifest.file_bytes());
            assert_eq!(manifest.files.is_some(), manifest.format == 2);
            format!("{} parts", manifest.parts.len())
        }
        Err(error) => {
            assert!(!error.is_retryable(), "{error}");
            let newer = matches!(error, CheckpointError::NewerFormat { .. });
            assert!(newer || error.is_corrupt(), "{error}");
            error.to_string()
        }
    };
    Target::new("manifest", &read)
        .words(&[
            "\"parts\":",
            "\"path\":",
            "\"bytes\":",
            "\"blake3\":",
            "\"format\":",
            "\"state\":",
            "\"files\":",
            "\"metrics\":",
            "../",
            "trials/4/",
            "null",
            "[",
            "{",
            "-1",
            "1e999",
            "18446744073709551615",
        ])
        .run();
}

/// The list of a program's files: what is accepted is written, and nothing beside it.
#[test]
fn files() {
    /// Of files that are really written.
    const WRITTEN: u64 = 4_096;
    let outside = tempfile::tempdir().unwrap();
    let read = |input: &[u8]| {
        let entries: Vec<Entry> = match serde_json::from_slice(input) {
            Ok(entries) => entries,
            Err(error) => return error.to_string(),
        };
        if let Err(why) = listing::check(&entries) {
            return why;
        }
        let bytes = listing::bytes(&entries);
        if bytes > WRITTEN || entries.len() > 16 {
            return "too large to be written here".to_owned();
        }
        let root = outside.path().join("inside");
        let mut unpacker = Unpacker::begin(root.clone(), entries.clone(), false).unwrap();
        unpacker.write(&vec![7; bytes as usize]).unwrap();
        unpacker.finish().unwrap();
        let beside: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(beside.len(), 1, "{beside:?}");
        assert_eq!(super::scan(&root).unwrap(), entries);
        std::fs::remove_dir_all(&root).unwrap();
        "written".to_owned()
    };
    Target::new("files", &read)
        .words(&[
            "{\"file\":{\"path\":\"a\",\"bytes\":1}}",
            "{\"link\":{\"path\":\"a\",\"target\":\"b\"}}",
            "{\"folder\":{\"path\":\"a\"}}",
            "\"executable\":true",
            "../",
            "..",
            "/",
            "/etc/",
            "./",
            "\\u0000",
            ",",
            "18446744073709551615",
        ])
        .run();
}

/// Parts together are one file.
#[test]
fn parts() {
    let read = |input: &[u8]| match codec::decode(input) {
        Ok(tensors) => {
            let values: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
            assert!(values * size_of::<f32>() <= input.len());
            for tensor in &tensors {
                assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len());
            }
            // What was read can be written again, but for the name that the format keeps for itself.
            let own = |name: &str| name == "__metadata__";
            if !tensors.iter().any(|tensor| own(&tensor.name)) {
                codec::header(&tensors).unwrap();
            }
            format!("{} tensors", tensors.len())
        }
        Err(error) => error.to_string(),
    };
    Target::new("parts", &read)
        .words(&[
            "\"dtype\":\"F32\"",
            "\"shape\":",
            "\"data_offsets\":",
            "\"__metadata__\":{}",
            "[0,0]",
            "\"F16\"",
            "\"I64\"",
            "[]",
            "18446744073709551615",
            "4294967296",
            "\u{0}\u{0}\u{0}\u{0}",
        ])
        .run();
}
