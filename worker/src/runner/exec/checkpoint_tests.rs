//! Programs that make checkpoints, and go on from them.

use std::path::{Path, PathBuf};

use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::{Assignment, AttemptOutcome, CheckpointRef, report::Body};

use crate::attempt::Stop;
use crate::runner::testing::{Ran, assignment, exec_spec, run_assignment};

/// A store in a folder, and what programs are assigned.
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
        TrialSpec {
            checkpoint_url: format!("file://{}", self.folder.path().display()),
            ..exec_spec(&["sh", "-c", script])
        }
    }

    /// Going on from the last of these.
    fn from(&self, script: &str, checkpoints: &[CheckpointRef]) -> Assignment {
        Assignment {
            attempt: 1,
            generation: 2,
            resume_from: checkpoints.last().cloned(),
            checkpoints: checkpoints.to_vec(),
            ..assignment(&self.spec(script))
        }
    }

    fn parts(&self) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.folder.path().join("trials/3/parts/1")).unwrap();
        listed.map(|entry| entry.unwrap().path()).collect()
    }
}

fn saved(ran: &Ran) -> Vec<CheckpointRef> {
    let bodies = ran.bodies();
    let saved = bodies.filter_map(|body| match body {
        Body::Checkpoint(saved) => saved.checkpoint.clone(),
        _ => None,
    });
    saved.collect()
}

/// After the word that begins a line of the log.
fn told<'a>(ran: &'a Ran, word: &str) -> &'a str {
    let mut lines = ran.log().lines();
    let line = lines.find_map(|line| line.strip_prefix(word));
    line.unwrap_or_else(|| panic!("no {word:?} in {}", ran.log()))
        .trim()
}

/// Makes checkpoints of these epochs, ten steps each.
fn makes(epochs: &str) -> String {
    format!(
        r#"echo dir $TRAINYARD_CHECKPOINT_DIR
        for epoch in {epochs}; do
          made=$TRAINYARD_CHECKPOINT_DIR/$epoch; mkdir -p $made/deep
          echo state $epoch > $made/deep/state; echo '#!/bin/sh' > $made/run; chmod +x $made/run
          echo "{{\"metrics\": {{\"loss\": 0.$epoch}}, \"epoch\": $epoch, \"step\": ${{epoch}}0, \"checkpoint\": \"$made\"}}"
        done
        "#
    )
}

const GOES_ON: &str = r#"cd $TRAINYARD_RESTORE_DIR || exit 1
    [ -x run ] || exit 2
    echo "has $(cat deep/state) of $TRAINYARD_RESTORE_EPOCH $TRAINYARD_RESTORE_STEP"; echo its own > deep/state"#;

#[tokio::test]
async fn a_program_s_checkpoint_is_given_back_to_the_next_attempt() {
    let bench = Bench::new();
    let ran = run_assignment(assignment(&bench.spec(&makes("1 2 3"))), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{:?}", ran.end);
    let all = saved(&ran);
    let at: Vec<_> = all
        .iter()
        .map(|one| (one.epoch, one.step, one.metrics[0].value))
        .collect();
    assert_eq!(at, [(1, 10, 0.1), (2, 20, 0.2), (3, 30, 0.3)]);
    assert!(
        !Path::new(told(&ran, "dir")).exists(),
        "nothing stays on the disk"
    );
    let ran = run_assignment(bench.from(GOES_ON, &all), |_| {}).await;
    assert_eq!(
        ran.end.outcome,
        AttemptOutcome::Completed,
        "{:?} {}",
        ran.end,
        ran.log()
    );
    assert_eq!(told(&ran, "has"), "state 3 of 3 30");
    let started = ran.bodies().find_map(|body| match body {
        Body::Started(started) => Some(started.from_step),
        _ => None,
    });
    assert_eq!(started, Some(30));
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let bench = Bench::new();
    let ran = run_assignment(assignment(&bench.spec(&makes("1"))), |_| {}).await;
    let mut all = saved(&ran);
    let before = bench.parts();
    let other = Assignment {
        attempt: 1,
        ..assignment(&bench.spec(&makes("2")))
    };
    all.extend(saved(&run_assignment(other, |_| {}).await));
    for part in bench.parts().iter().filter(|part| !before.contains(part)) {
        std::fs::write(part, "other bytes").unwrap();
    }
    let ran = run_assignment(bench.from(GOES_ON, &all), |_| {}).await;
    assert_eq!(told(&ran, "has"), "state 1 of 1 10");
    let dropped = ran.bodies().find_map(|body| match body {
        Body::Dropped(dropped) => Some(dropped.manifests.clone()),
        _ => None,
    });
    assert_eq!(dropped, Some(vec![all[1].manifest.clone()]));
    // None is whole: it begins anew.
    for part in bench.parts() {
        std::fs::remove_file(part).unwrap();
    }
    let anew = "echo ${TRAINYARD_RESTORE_DIR-begins} anew";
    let ran = run_assignment(bench.from(anew, &all), |_| {}).await;
    assert!(ran.log().contains("begins anew"), "{}", ran.log());
}

#[tokio::test]
async fn what_is_no_checkpoint_is_told_and_the_program_goes_on() {
    let bench = Bench::new();
    let script = makes("1")
        + r#"mkdir $TRAINYARD_CHECKPOINT_DIR/again; echo x > $TRAINYARD_CHECKPOINT_DIR/again/x
        echo "{\"metrics\": {}, \"step\": 11, \"checkpoint\": \"/no/such/folder\"}"
        ln -s /etc/passwd $TRAINYARD_CHECKPOINT_DIR/again/link
        echo "{\"metrics\": {}, \"step\": 12, \"checkpoint\": \"$TRAINYARD_CHECKPOINT_DIR/again\"}""#;
    let ran = run_assignment(assignment(&bench.spec(&script)), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{:?}", ran.end);
    assert_eq!(saved(&ran).len(), 1);
    let log = ran.log();
    assert!(
        log.contains("checkpoint /no/such/folder: there is no such"),
        "{log}"
    );
    assert!(log.contains("leads to \"/etc/passwd\""), "{log}");
}

#[tokio::test]
async fn a_checkpoint_made_on_the_way_out_counts() {
    let bench = Bench::new();
    let leaves = makes("4").replace("for epoch", "trap 'go' TERM; go() { for epoch")
        + "exit 0; }; echo re''ady; while :; do sleep 0.05; done";
    let ran = run_assignment(assignment(&bench.spec(&leaves)), |run| {
        run.stop_at_log("ready", Stop::Checkpoint);
    })
    .await;
    assert_eq!(
        ran.end.outcome,
        AttemptOutcome::Preempted,
        "{:?} {}",
        ran.end,
        ran.log()
    );
    assert_eq!(saved(&ran).len(), 1, "{}", ran.log());
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_saved_ends_the_attempt() {
    let bench = Bench::new();
    let mut spec = bench.spec(&(makes("1") + "sleep 1000"));
    spec.checkpoint_url = "file:///dev/null/nowhere".to_owned();
    let ran = run_assignment(assignment(&spec), |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Error, "{:?}", ran.end);
    let error = &ran.end.error;
    assert!(error.contains("a checkpoint could not be saved"), "{error}");
    assert!(!Path::new(told(&ran, "dir")).exists());
}

#[tokio::test]
async fn of_two_checkpoints_of_a_step_the_newer_counts() {
    let bench = Bench::new();
    let again = r#"
        made=$TRAINYARD_CHECKPOINT_DIR/again; mkdir -p $made/deep
        echo state again > $made/deep/state; echo '#!/bin/sh' > $made/run; chmod +x $made/run
        echo "{\"metrics\": {}, \"epoch\": 2, \"step\": 20, \"checkpoint\": \"$made\"}"
        mkdir $TRAINYARD_CHECKPOINT_DIR/back; echo x > $TRAINYARD_CHECKPOINT_DIR/back/x"#;
    let ran = run_assignment(assignment(&bench.spec(&(makes("1 2") + again))), |_| {}).await;
    let all = saved(&ran);
    let steps: Vec<u64> = all.iter().map(|one| one.step).collect();
    assert_eq!(steps, [10, 20, 21], "{}", ran.log());
    let ran = run_assignment(bench.from(GOES_ON, &all), |_| {}).await;
    assert_eq!(told(&ran, "has"), "state again of 2 21");
}
