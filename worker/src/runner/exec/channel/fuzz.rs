//! Lines that a program writes into its channel.

use trainyard_fuzz::Target;

use super::wire;
use crate::attempt::Mask;
use crate::runner::exec::count::{Count, Known};
use crate::runner::exec::report::{self, Parsed};

/// A channel's requests, and the same bytes as lines on standard output.
#[test]
fn channel_lines() {
    let read = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let known = || Known {
            objectives: vec!["loss".to_owned()],
            until: Some(3),
            ..Known::default()
        };
        let mut count = Count::new(known());
        let mask = Mask::of(["a secret of the program"]);
        let mut told = String::new();
        for line in text.lines() {
            let asked = wire::read(line, &mask);
            let answer = match (&asked.request, &asked.id) {
                (Err(why), id) => wire::error(id.as_ref(), why),
                (Ok(_), Some(id)) => wire::ok(id),
                (Ok(_), None) => wire::stop(None, None),
            };
            assert!(!answer.to_string().contains('\n') && answer.to_string().len() < 4096);
            told.push_str(answer["message"].as_str().unwrap_or("accepted "));
            if let Ok(wire::Request::Report(said)) = asked.request {
                told += &count.report(said).notes.concat();
            }
            match report::line(line, &mask) {
                Parsed::Report(said) => told += &count.report(said).notes.concat(),
                Parsed::Miss(_, why) => told += &why,
                Parsed::Infeasible(_) | Parsed::Text => {}
            }
        }
        told
    };
    Target::new("channel", &read)
        .words(&[
            "\n",
            r#"{"type":"report","metrics":{"loss":0.5},"epoch":1}"#,
            r#""metrics":{"#,
            "NaN",
            "-Infinity",
            r#""id":7"#,
            r#""step":18446744073709551615"#,
            "null",
            "'metrics'",
            "\u{1b}[31m",
        ])
        .run();
}
