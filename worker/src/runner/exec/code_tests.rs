//! Programs whose code came with their job.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::AttemptOutcome;

use crate::runner::testing::{exec_spec, run_alone};

/// A store with one bundle, and a trial whose code it is.
struct Bench {
    folder: tempfile::TempDir,
    digest: String,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            builder
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&builder.into_inner().unwrap()).unwrap();
        let packed = encoder.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bundle"), &packed).unwrap();
        Self {
            folder,
            digest: blake3::hash(&packed).to_hex().to_string(),
        }
    }

    fn spec(&self, command: &[&str], working: Option<&str>) -> TrialSpec {
        let mut spec = exec_spec(command);
        let entrypoint = spec.job.entrypoint.as_mut().unwrap();
        entrypoint.bundle = Some(self.digest.clone());
        entrypoint.working_directory = working.map(Into::into);
        let at = |name: &str| format!("file://{}/{name}", self.folder.path().display());
        TrialSpec {
            bundle_url: Some(at("bundle")),
            checkpoint_url: at("checkpoints"),
            ..spec
        }
    }
}

#[tokio::test]
async fn each_attempt_starts_in_a_clean_copy_that_is_its_own() {
    let run = r#"[ ! -e made ] || exit 3
        echo new > made; echo changed > ../data; echo "in $PWD $(cat "$(dirname "$0")/word")"
        echo '{"metrics": {"loss": 1}, "epoch": 1, "checkpoint": "made"}'"#;
    let bench = Bench::new(&[
        ("data", "as it was"),
        ("src/run", run),
        ("src/word", "hello"),
    ]);
    let mut places = Vec::new();
    for _ in 0..2 {
        let ran = run_alone(bench.spec(&["sh", "./run"], Some("src")), |_| {}).await;
        assert_eq!(
            ran.end.outcome,
            AttemptOutcome::Completed,
            "{:?} {}",
            ran.end,
            ran.log()
        );
        let line = ran.log().lines().find(|line| line.starts_with("in "));
        let place = line.unwrap().split(' ').nth(1).unwrap().to_owned();
        assert!(line.unwrap().ends_with("/code/src hello"), "{}", ran.log());
        assert!(!std::path::Path::new(&place).exists(), "{place}");
        // A relative path is one of where it started.
        assert!(!ran.log().contains("checkpoint made"), "{}", ran.log());
        assert!(
            ran.log().contains("unpacked the shipped code"),
            "{}",
            ran.log()
        );
        places.push(place);
    }
}

#[tokio::test]
async fn what_is_missing_or_damaged_is_told_for_what_it_is() {
    let bench = Bench::new(&[("run", "true")]);
    let ended = async |spec: TrialSpec, expected: &str| {
        let ran = run_alone(spec, |_| {}).await;
        assert_eq!(ran.end.outcome, AttemptOutcome::Error);
        assert!(ran.end.error.contains(expected), "{}", ran.end.error);
    };
    let missing = "entrypoint.working_directory: src: No such file or directory";
    ended(bench.spec(&["sh", "run"], Some("src")), missing).await;
    let no_folder = "entrypoint.working_directory: run is no folder in the shipped folder";
    ended(bench.spec(&["sh", "run"], Some("run")), no_folder).await;
    let mut spec = bench.spec(&["sh", "run"], None);
    spec.bundle_url = None;
    ended(spec, "is it older than this worker?").await;
    let bundle = bench.folder.path().join("bundle");
    let whole = std::fs::read(&bundle).unwrap();
    std::fs::write(&bundle, &whole[..whole.len() - 1]).unwrap();
    ended(
        bench.spec(&["sh", "run"], None),
        "is damaged: its digest is",
    )
    .await;
    std::fs::remove_file(&bundle).unwrap();
    ended(bench.spec(&["sh", "run"], None), "cannot be read").await;
}
