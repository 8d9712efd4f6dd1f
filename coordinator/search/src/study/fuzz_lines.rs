//! Lines that are said to a search without a cluster: each has an answer of one line.

use trainyard_common::spec::Document;
use trainyard_fuzz::Target;

use super::{Study, protocol};

const SEARCHES: [&str; 2] = [
    "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\nsearcher: {name: random, max_trials: 9}",
    "hyperparameters: {x: {type: int, minval: 0, maxval: 9}}\nsearcher: {name: random, max_trials: 9}\n\
     scheduler: {name: asha, max_resource: 9}",
];

#[test]
fn ask_tell_lines() {
    let searches = SEARCHES.map(|text| Document::parse_search(text, &[]).unwrap());
    let read = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let mut told = String::new();
        for search in &searches {
            let mut study = Study::of(search.job()).unwrap();
            for line in text.lines() {
                let answer = protocol::answer(&mut study, line);
                assert!(answer.is_object(), "{answer}");
                assert!(!answer.to_string().contains('\n'));
                let error = answer.get("error").and_then(|error| error.as_str());
                told.push_str(error.unwrap_or("answered "));
            }
        }
        told
    };
    Target::new("ask-tell", &read)
        .words(&[
            "\n",
            "{\"ask\":{}}\n",
            "{\"report\":{\"trial\":0,\"resource\":1,\"value\":0.5}}\n",
            "{\"tell\":{\"trial\":0,\"value\":0.5}}\n",
            "\"state\":\"nan\"",
            "\"values\":[1,2]",
            "null",
            "1e400",
            "4294967296",
            "-1",
            "NaN",
        ])
        .run();
}
