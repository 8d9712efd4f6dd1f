//! References in a program's arguments and in places of data.

use serde_json::json;
use trainyard_common::ids::TrialId;
use trainyard_common::spec::Document;
use trainyard_fuzz::Target;

const WORDS: [&str; 20] = [
    "${a}", "${b}", "${c}", "${long}", "${none}", "$${", "$$", "${", "}", "$", "{", " ", "/",
    "://", "?", "#", "%7B", "%", "${ a }", "../",
];

#[test]
fn reference() {
    Target::new("reference", &|input| read(&String::from_utf8_lossy(input)))
        .words(&WORDS)
        .iterations(500)
        .longest(2_000)
        .run();
}

fn read(text: &str) -> String {
    let spec = json!({
        "name": "x",
        "objectives": [{"metric": "y", "mode": "minimize"}],
        "searcher": {"name": "random", "max_trials": 2},
        "hyperparameters": {
            "a": {"type": "int", "minval": 1, "maxval": 4},
            "b": {"type": "boolean"},
            "c": {"type": "double", "minval": 0.0, "maxval": 1.0, "when": {"b": true}},
            "long": {"type": "const", "val": "x".repeat(10_000)},
        },
        "entrypoint": {"command": ["echo", text], "environment": {"E": text}, "working_directory": text},
    });
    let document = match Document::parse(&spec.to_string()) {
        Ok(document) => document,
        Err(errors) => return errors.to_string(),
    };
    let params = document.space().sample(trainyard_common::rng::Key::new(1));
    let Ok(trial) = document.trial(TrialId(0), &params, "memory://x") else {
        return "refused for one configuration".to_owned();
    };
    let argument = &trial.job.entrypoint.as_ref().unwrap().command[1];
    if !text.contains("${") {
        assert_eq!(argument, text, "a text without references is as it was");
    }
    format!("accepted, {} references", text.contains("${"))
}
