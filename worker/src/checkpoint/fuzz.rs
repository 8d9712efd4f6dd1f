//! What is read back from a store, as nobody would have written it.

use trainyard_common::ids::{Generation, TrialId};
use trainyard_fuzz::Target;

use super::manifest::{self, Manifest};
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
            assert!(manifest.tensor_bytes <= manifest.file_bytes());
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
