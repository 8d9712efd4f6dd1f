//! Whole documents.

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::spec::Document;
use trainyard_fuzz::Target;

const WORDS: [&str; 64] = [
    "name: x\n",
    "data:",
    "train:",
    "csv:",
    "url:",
    "targets:",
    "shape:",
    "classes:",
    "model:",
    "layers:\n",
    "- dense: {units: 8}\n",
    "- conv2d: {filters: 4, kernel: 3}\n",
    "- flatten\n",
    "training:",
    "optimizer:",
    "adam",
    "batch_size:",
    "epochs:",
    "hyperparameters:\n",
    "  x: ",
    "{type: double, minval: 0, maxval: 1}",
    "{type: int, minval: 1, maxval: 9}",
    "{type: categorical, vals: [a, b]}",
    "{type: boolean}",
    "{type: const, val: 1}",
    "log: true",
    "step: 0.1",
    "count: 3",
    "when: {x: true}",
    "constraints: ['x == 1']\n",
    "objectives: [{metric: y, mode: minimize}]\n",
    "searcher:",
    "{name: random, max_trials: 2}",
    "grid",
    "tpe",
    "gp",
    "points_to_evaluate: [{x: 1}]",
    "scheduler: {name: asha}",
    "resources: {slots_per_trial: 2}",
    "entrypoint: {command: ['true']}\n",
    "${x}",
    "$${",
    "${",
    "}",
    "&a ",
    "*a",
    "<<: *a\n",
    "!t ",
    "? ",
    ": ",
    "- ",
    "\n",
    "  ",
    "---\n",
    "...\n",
    "%TAG ! x\n",
    "%YAML 1.1\n",
    "|\n ",
    ">-\n ",
    "'",
    "\"",
    "[",
    "{",
    "# ",
];

#[test]
fn spec() {
    Target::new("spec", &|input| read(&String::from_utf8_lossy(input)))
        .words(&WORDS)
        .iterations(300)
        .longest(4 * 1024)
        .run();
}

fn read(text: &str) -> String {
    let _ = Document::is_search(text);
    let _ = Document::parse_search(text, &[]);
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(errors) => {
            assert!(!errors.0.is_empty());
            let shown = errors.to_string();
            assert!(
                errors.0.len() <= 21 && shown.len() < 30_000,
                "{} bytes of errors",
                shown.len()
            );
            return shown;
        }
    };
    // What is accepted is kept, and read again as the same job.
    let stored = document.to_json();
    let again = Document::from_accepted(stored.clone()).unwrap();
    assert_eq!(again.job(), document.job());
    assert_eq!(again.to_json(), stored);
    let twice = Document::parse(&stored.to_string()).unwrap();
    assert_eq!(twice.to_json(), stored);
    let space = document.space();
    for draw in 0..4 {
        let params = space.sample(Key::new(1).with(draw));
        if space.allows(&params) {
            space.contains(&params).unwrap();
            let _ = document.trial(TrialId(0), &params, "memory://x");
        }
    }
    format!(
        "accepted {:?} {:?}",
        document.job().searcher.name,
        document.warnings()
    )
}
