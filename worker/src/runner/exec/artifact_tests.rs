//! Programs that keep files with their trial.

use std::path::Path;
use std::sync::Arc;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::{Assignment, AttemptOutcome};

use super::artifacts::Artifacts;
use super::take_over::Places;
use crate::attempt::AttemptKey;
use crate::checkpoint::{Artifact, ArtifactKind, CheckpointStore, Owner};
use crate::outbox::{Outbox, Reporter};
use crate::runner::testing::{Ran, SPEAKS, assignment, exec_spec, run_assignment};

/// What such a program needs to keep things.
const KEEPS: &str = r#"
def keep(path, **more):
    answer = ask(type="artifact", id=1, path=path, **more)
    print("kept" if answer["type"] == "ok" else "refused " + answer["message"], flush=True)
def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write(text)
here = os.environ["HERE"]
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn spec(&self, script: &str) -> TrialSpec {
        let mut spec = exec_spec(&["python3", "-c", &format!("{SPEAKS}{KEEPS}{script}")]);
        let program = spec.job.entrypoint.as_mut().unwrap();
        let here = self.folder.path().join("here");
        std::fs::create_dir_all(&here).unwrap();
        program.working_directory = Some(here.clone());
        program.environment.insert(
            "HERE".to_owned(),
            here.display().to_string().as_str().into(),
        );
        spec.checkpoint_url = format!("file://{}/store", self.folder.path().display());
        spec
    }

    fn given(&self, script: &str, generation: u64) -> Assignment {
        Assignment {
            generation,
            ..assignment(&self.spec(script))
        }
    }

    async fn run(&self, script: &str, generation: u64) -> Ran {
        let ran = run_assignment(self.given(script, generation), |_| {}).await;
        let log = ran.log();
        assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{log}");
        ran
    }

    fn store(&self) -> CheckpointStore {
        CheckpointStore::open(&self.spec("").checkpoint_url).unwrap()
    }

    async fn artifacts(&self) -> Vec<Artifact> {
        self.store().artifacts(TrialId(3)).await.unwrap()
    }

    async fn text(&self, name: &str) -> String {
        let all = self.artifacts().await;
        let found = all.iter().find(|found| found.manifest.name == name);
        let to = tempfile::tempdir().unwrap();
        let to = to.path().join("deep/down");
        let found = found.unwrap_or_else(|| panic!("no {name} in {all:?}"));
        self.store().download_artifact(found, &to).await.unwrap();
        std::fs::read_to_string(to).unwrap()
    }

    fn objects(&self) -> usize {
        fn count(at: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(at) else {
                return 0;
            };
            entries
                .map(|entry| entry.unwrap().path())
                .map(|path| if path.is_dir() { count(&path) } else { 1 })
                .sum()
        }
        count(&self.folder.path().join("store"))
    }
}

#[tokio::test]
async fn files_and_folders_are_kept_and_come_back() {
    let bench = Bench::new();
    let script = r#"
write(here + "/plot.png", "png")
keep("plot.png")
write(here + "/report/deep/a.txt", "a"); write(here + "/report/b.txt", "b")
keep(here + "/report", name="reports/first")
made = os.environ["TRAINYARD_CHECKPOINT_DIR"] + "/made"
write(made + "/w.txt", "w")
keep(made + "/w.txt")
print("stays", os.path.exists(made + "/w.txt"), os.path.exists("plot.png"), flush=True)
keep("none")
keep("plot.png", name="../up")
keep(os.environ["TRAINYARD_CHECKPOINT_DIR"] + "/..", name="all")
keep("/dev/null", name="null")
"#;
    let ran = bench.run(script, 1).await;
    let log = ran.log();
    assert!(
        log.contains("stays True True"),
        "what is kept is a copy: {log}"
    );
    for words in [
        "artifact none: none: there is no such folder or file",
        "name is \"../up\", accepted are 1 to 255 bytes",
        "TRAINYARD_CHECKPOINT_DIR itself",
        "neither a folder nor a file",
        "artifact plot.png is kept (3 bytes)",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let all = bench.artifacts().await;
    let names: Vec<(&str, ArtifactKind, u64)> = all
        .iter()
        .map(|found| &found.manifest)
        .map(|found| (found.name.as_str(), found.kind, found.bytes()))
        .collect();
    assert_eq!(
        names,
        [
            ("plot.png", ArtifactKind::File, 3),
            ("reports/first", ArtifactKind::Folder, 2),
            ("w.txt", ArtifactKind::File, 1),
        ]
    );
    assert_eq!(bench.text("plot.png").await, "png");
    let to = bench.folder.path().join("first");
    bench.store().download_artifact(&all[1], &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(to.join("deep/a.txt")).unwrap(), "a");
    let told = bench.store().download_artifact(&all[0], &to).await;
    assert!(told.unwrap_err().to_string().contains("there already"));
    assert_eq!(bench.store().trials().await.unwrap(), [TrialId(3)]);
    // No checkpoint is found where artifacts are.
    assert_eq!(
        bench.store().manifests(TrialId(3)).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_name_is_one_artifact_s_and_the_newest_counts() {
    let bench = Bench::new();
    let twice = r#"
for text in ("one", "two"):
    write(here + "/plot", text); keep("plot")
write(here + "/other", "two"); keep("other")
"#;
    let ran = bench.run(twice, 7).await;
    let told = "artifact plot is kept (3 bytes), in place of the one before";
    assert!(ran.log().contains(told), "{}", ran.log());
    assert_eq!(bench.text("plot").await, "two");
    // What was replaced is gone; of the same bytes there is one part.
    assert_eq!(bench.objects(), 3, "two manifests and a part");
    // A worker that was cut off still writes for an older generation: it hides nothing.
    bench
        .run(r#"write(here + "/plot", "late"); keep("plot")"#, 6)
        .await;
    assert_eq!(bench.text("plot").await, "two");
    // The next attempt's takes the place of both, and the part of the other artifact stays.
    let ran = bench
        .run(r#"write(here + "/plot", "three"); keep("plot")"#, 10)
        .await;
    assert!(ran.log().contains("in place of"), "{}", ran.log());
    assert_eq!(bench.text("plot").await, "three");
    assert_eq!(bench.text("other").await, "two");
    assert_eq!(bench.objects(), 4);
    let attempt = bench.artifacts().await.remove(1).manifest;
    assert_eq!((attempt.generation, attempt.number), (10, 1));
}

#[tokio::test]
async fn what_is_damaged_is_not_handed_out() {
    let bench = Bench::new();
    let script = r#"
write(here + "/a", "a"); keep("a")
write(here + "/b", "b"); keep("b")
"#;
    bench.run(script, 1).await;
    let all = bench.artifacts().await;
    let root = bench.folder.path().join("store/trials/3/artifacts");
    for part in std::fs::read_dir(root.join("parts/1")).unwrap() {
        std::fs::write(part.unwrap().path(), "x").unwrap();
    }
    let to = bench.folder.path().join("to");
    let told = bench.store().download_artifact(&all[0], &to).await;
    let told = told.unwrap_err().to_string();
    assert!(told.contains("its digest is"), "{told}");
    assert!(!to.exists());
    let manifest = bench.folder.path().join("store").join(&all[1].path);
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"b\"", "\"a\"")).unwrap();
    let names = bench.artifacts().await;
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test]
async fn what_cannot_be_saved_is_told_and_ends_nothing() {
    let bench = Bench::new();
    let mut given = bench.given(r#"write(here + "/a", "a"); keep("a")"#, 1);
    let mut spec = bench.spec(r#"write(here + "/a", "a"); keep("a")"#);
    spec.checkpoint_url = "file:///dev/null/nowhere".to_owned();
    given.trial_spec_json = serde_json::to_string(&spec).unwrap();
    let ran = run_assignment(given, |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{}", ran.log());
    assert!(ran.log().contains("artifact a"), "{}", ran.log());
    assert!(ran.log().contains("/dev/null/nowhere"), "{}", ran.log());
}

#[tokio::test]
async fn those_of_rank_0_are_kept_and_the_others_told_once() {
    let bench = Bench::new();
    let outbox = Arc::new(Outbox::new(8));
    let key = AttemptKey::new("job-1", 3, 0, 1, 1);
    let owner = Owner {
        job: key.job.clone(),
        trial: key.trial,
        attempt: key.attempt,
        generation: key.generation,
    };
    let here = bench.folder.path().to_owned();
    std::fs::write(here.join("a"), "a").unwrap();
    let places = Places {
        working: here.clone(),
        directory: here.join("attempt/checkpoints"),
        attempt: here.join("attempt"),
        user: None,
    };
    let reporter = Reporter::new(key, Arc::default(), outbox.clone());
    let artifacts = Artifacts::new(reporter, places, here, owner, bench.store());
    for _ in 0..3 {
        artifacts.take(Path::new("a"), None).await.unwrap();
    }
    artifacts.finish().await;
    let lines = outbox.next_logs().unwrap().lines;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].text.contains("artifacts of rank 1 are not kept"));
    assert_eq!(bench.artifacts().await, []);
}
