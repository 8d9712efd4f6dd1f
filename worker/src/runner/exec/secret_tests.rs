//! What programs say of their secrets, and what of it is told.

use std::sync::Arc;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::{SecretRef, TrialSpec, Variable};
use trainyard_proto::v1::{AttemptOutcome, report::Body};

use super::rules::Rules;
use crate::checkpoint::CheckpointStore;
use crate::runner::Host;
use crate::runner::testing::{Ran, SPEAKS, assignment, exec_spec, run_beside};

/// Its beginning stands nowhere else.
const SECRET: &str = "Qx7Lm2Zt9vRk4Wp8Hs3Jd6Nf1Bg5Cy0Ta2Ue7Xo4";
const BEGINNING: &str = "Qx7";

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), SECRET).unwrap();
        Self { folder }
    }

    fn spec(&self, script: &str) -> TrialSpec {
        let begin = "import json, os, socket, sys\nkey = os.environ['KEY']\n";
        let mut spec = exec_spec(&["python3", "-c", &format!("{begin}{script}")]);
        let program = spec.job.entrypoint.as_mut().unwrap();
        let secret = SecretRef {
            secret: "key".to_owned(),
        };
        let environment = &mut program.environment;
        environment.insert("KEY".to_owned(), Variable::Secret(secret));
        spec.checkpoint_url = format!("file://{}/store", self.folder.path().display());
        spec
    }

    async fn run(&self, script: &str) -> Ran {
        let host = Host {
            rules: Rules::with_secrets(self.folder.path()),
            ..Host::for_test()
        };
        let given = assignment(&self.spec(script));
        let ran = run_beside(given, Arc::new(host), |_| {}).await;
        let end = ran.end.clone().into_body();
        let told = format!("{end:?} {:?} {}", ran.reports, ran.log());
        assert!(!told.contains(BEGINNING), "{script}: {told}");
        ran
    }
}

fn error(ran: &Ran) -> String {
    match ran.end.clone().into_body() {
        Body::Ended(ended) => ended.error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_a_long_text_no_secret_s_beginning_is_left_where_it_is_cut() {
    let bench = Bench::new();
    // Around the longest error, 4096 bytes, with what stands before the program's words in it.
    for before in (4_000..4_100).step_by(11) {
        let last = format!("print('x' * {before} + key, file=sys.stderr); sys.exit(3)");
        let ran = bench.run(&last).await;
        assert_eq!(ran.end.outcome, AttemptOutcome::Error);
        assert!(error(&ran).len() > 4_000);
        let reason = format!(
            "print(json.dumps({{'infeasible': 'x' * {before} + key}}), flush=True); sys.exit(1)"
        );
        let ran = bench.run(&reason).await;
        assert_eq!(ran.end.outcome, AttemptOutcome::Infeasible);
        assert!(error(&ran).len() > 4_000);
    }
}

#[tokio::test]
async fn of_a_line_that_is_too_long_no_secret_s_beginning_is_left() {
    let bench = Bench::new();
    // What is hidden makes it short enough to be shown up to where it was cut.
    for pipe in ["stdout", "stderr"] {
        let ran = bench
            .run(&format!("print(key * 2000, file=sys.{pipe}); sys.exit(1)"))
            .await;
        assert!(ran.log().contains("******"), "{}", ran.log());
    }
}

#[tokio::test]
async fn names_that_hold_a_secret_are_told_and_kept_without_it() {
    let bench = Bench::new();
    let script = r#"
import tempfile
here = tempfile.mkdtemp()
path = here + "/plot of " + key
open(path, "w").write("1")
assert ask(type="artifact", id=1, path=path)["type"] == "ok"
for before in range(42):
    for name in ["n" * before + key + "\n", "n" * before + key + "//"]:
        answer = ask(type="artifact", id=2, path=path, name=name)
        assert answer["type"] == "error" and key[:3] not in answer["message"], answer
# Names of files are quoted, too, however long.
inner = os.environ["TRAINYARD_CHECKPOINT_DIR"] + "/one"
os.makedirs(inner)
os.symlink("/" + "x" * 90 + key, inner + "/" + "y" * 90 + key)
answer = ask(type="checkpoint", id=3, path=inner)
assert answer["type"] == "error", answer
ask(type="report", id=4, epoch=1, metrics={"of " + key: 1, "loss": 2})
"#;
    let ran = bench.run(&format!("{SPEAKS}{script}")).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{}", ran.log());
    let names: Vec<&str> = ran.progress()[0]
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    assert_eq!(names, ["of ***", "loss"]);
    let url = format!("file://{}/store", bench.folder.path().display());
    let kept = CheckpointStore::open(&url).unwrap();
    let kept = kept.artifacts(TrialId(3)).await.unwrap();
    let names: Vec<&str> = kept.iter().map(|of| of.manifest.name.as_str()).collect();
    assert_eq!(names, ["plot of ***"]);
}
