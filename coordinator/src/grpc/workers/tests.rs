//! What a worker may say, and what becomes of it.

use proptest::prelude::*;
use trainyard_proto::v1::report::Body;

use super::*;
use crate::grpc::limits::{
    MAX_ADDRESS, MAX_CPU_KIND, MAX_DEVICE, MAX_DIGEST, MAX_ERROR_BYTES, MAX_HOST, MAX_LEVEL,
    MAX_LINES_PER_BATCH, MAX_MANIFESTS, MAX_METRIC_NAME, MAX_METRICS, MAX_PATH, MAX_VERSION,
};

/// The longest identifier.
const MAX_ID: usize = 256;

/// Texts around the limits: short ones, long ones, and such as a terminal would obey.
fn words() -> impl Strategy<Value = String> {
    let sizes = prop_oneof![
        0_usize..40,
        200..300_usize,
        1_000..1_100_usize,
        16_300..16_500_usize
    ];
    let signs = prop_oneof![
        8 => Just("a"),
        2 => Just("é"),
        1 => Just("\u{1b}[2J"),
        1 => Just("\n"),
    ];
    prop_oneof![
        6 => "[a-z0-9:./-]{1,40}",
        2 => (signs, sizes).prop_map(|(sign, size)| sign.repeat(size)),
    ]
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..1_000, 1 => Just(1 << 53), 1 => any::<u64>()]
}

fn metric_lists() -> impl Strategy<Value = Vec<v1::Metric>> {
    let metric = (words(), any::<f64>()).prop_map(|(name, value)| v1::Metric { name, value });
    let metric = metric.boxed();
    let some = prop::collection::vec(metric.clone(), 0..4);
    let many = (metric, 500_usize..530).prop_map(|(metric, count)| vec![metric; count]);
    prop_oneof![6 => some, 1 => many]
}

fn checkpoints() -> impl Strategy<Value = v1::CheckpointRef> {
    let fields = (words(), words(), numbers(), metric_lists());
    fields.prop_map(|(manifest, digest, step, metrics)| v1::CheckpointRef {
        manifest,
        step,
        epoch: step / 2,
        bytes: step,
        digest,
        metrics,
    })
}

fn bodies() -> impl Strategy<Value = Body> {
    let started = (numbers(), numbers()).prop_map(|(step, total)| {
        Body::Started(v1::Started {
            from_step: step,
            steps_total: total,
            epochs_total: total,
            parameters: step,
        })
    });
    let progress = (numbers(), metric_lists(), any::<bool>()).prop_map(|(step, metrics, end)| {
        Body::Progress(v1::Progress {
            step,
            epoch: step,
            metrics,
            end_of_epoch: end,
            ..v1::Progress::default()
        })
    });
    let saved = prop::option::of(checkpoints())
        .prop_map(|checkpoint| Body::Checkpoint(v1::CheckpointSaved { checkpoint }));
    let ended = (any::<i32>(), words(), metric_lists()).prop_map(|(outcome, error, metrics)| {
        Body::Ended(v1::Ended {
            outcome: outcome % 16,
            error,
            step: 1,
            test_metrics: metrics,
        })
    });
    let dropped = (words(), 0_usize..1_200).prop_map(|(path, count)| {
        let manifests = vec![path; count];
        Body::Dropped(v1::CheckpointsDropped { manifests })
    });
    prop_oneof![started, progress, saved, ended, dropped]
}

fn told(refused: &impl ToString) -> Result<(), TestCaseError> {
    let text = refused.to_string();
    let (field, rest) = text.split_once(": ").unwrap_or_default();
    prop_assert!(
        !field.is_empty() && rest.contains(" given; accepted: "),
        "{}",
        text
    );
    prop_assert!(
        text.len() < 1_000 && !text.contains(char::is_control),
        "{}",
        text
    );
    Ok(())
}

fn named(name: &str, most: usize) -> Result<(), TestCaseError> {
    prop_assert!(name.len() <= most && !name.contains(char::is_control));
    Ok(())
}

fn metrics_fit(metrics: &Metrics) -> Result<(), TestCaseError> {
    prop_assert!(metrics.len() <= MAX_METRICS);
    for (name, _) in metrics {
        named(name, MAX_METRIC_NAME)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_report_is_within_the_limits_or_refused(job in words(), number in numbers(), body in bodies()) {
        let given = v1::Report {
            sequence: number,
            job_id: job,
            trial_id: 0,
            attempt: 0,
            generation: 1,
            rank: 0,
            time_ms: number,
            body: Some(body),
        };
        let taken = match report(given) {
            Ok(taken) => taken,
            Err(refused) => return told(&refused),
        };
        named(&taken.rank.at.job.0, MAX_ID)?;
        prop_assert!(taken.sequence <= 1 << 53);
        match taken.body {
            ReportBody::Started { .. } => {}
            ReportBody::Progress(point) => metrics_fit(&point.metrics)?,
            ReportBody::Checkpoint(saved) => {
                named(&saved.manifest, MAX_PATH)?;
                named(&saved.digest, MAX_DIGEST)?;
                metrics_fit(&saved.metrics)?;
            }
            ReportBody::Ended { error, test_metrics, .. } => {
                prop_assert!(error.len() <= MAX_ERROR_BYTES);
                metrics_fit(&test_metrics)?;
            }
            ReportBody::Refused { reason } => {
                let refused = reason.strip_prefix("a report was refused: ");
                told(&refused.unwrap_or_default())?;
            }
            ReportBody::Dropped { manifests } => {
                prop_assert!(manifests.len() <= MAX_MANIFESTS);
                for path in &manifests {
                    named(path, MAX_PATH)?;
                }
            }
        }
    }

    #[test]
    fn log_lines_are_within_the_limits_or_refused(
        job in words(),
        level in words(),
        text in words(),
        count in prop_oneof![6 => 0_usize..20, 1 => 4_000_usize..4_200],
        first in numbers(),
    ) {
        let line = v1::LogLine { level, text: text.clone(), ..Default::default() };
        let batch = v1::LogBatch {
            job_id: job,
            lines: vec![line; count],
            first,
            ..Default::default()
        };
        match log_event(SessionId(1), batch) {
            Ok(Event::Logs { lines, rank, .. }) => {
                named(&rank.at.job.0, MAX_ID)?;
                prop_assert!(lines.len() <= MAX_LINES_PER_BATCH);
                for line in lines {
                    named(&line.level, MAX_LEVEL)?;
                    prop_assert!(line.text.len() <= MAX_LINE_BYTES);
                    prop_assert!(line.text == text || line.text.ends_with(" [cut]"));
                }
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(refused) => told(&refused)?,
        }
    }

    #[test]
    fn a_worker_is_within_the_limits_or_refused(
        texts in prop::collection::vec(words(), 5),
        device in words(),
        count in prop_oneof![6 => 1_usize..9, 1 => 1_000_usize..1_100],
        running in 0_usize..3,
    ) {
        let [id, host, version, address, cpu_kind] = texts.try_into().unwrap();
        let given = v1::Register {
            worker_id: id,
            host,
            version,
            devices: vec![device; count],
            collective_address: address,
            cpu_kind,
            running: vec![v1::RunningAttempt::default(); running],
            ..Default::default()
        };
        match registration(given) {
            Ok((info, _)) => {
                named(&info.host, MAX_HOST)?;
                named(&info.version, MAX_VERSION)?;
                named(&info.collective_address, MAX_ADDRESS)?;
                named(&info.cpu_kind, MAX_CPU_KIND)?;
                prop_assert!((1..=MAX_SLOTS).contains(&info.devices.len()));
                for device in &info.devices {
                    named(device, MAX_DEVICE)?;
                }
            }
            // An identifier's error is that of requests.
            Err(refused) => prop_assert!(refused.to_string().len() < 1_000),
        }
    }
}

#[test]
fn the_first_field_that_is_too_large_is_named() {
    let register = |edit: fn(&mut v1::Register)| {
        let mut given = v1::Register {
            worker_id: "w".to_owned(),
            devices: vec!["cpu".to_owned()],
            ..Default::default()
        };
        edit(&mut given);
        registration(given).map(drop)
    };
    assert!(register(|_| {}).is_ok());
    // An old worker does not say that it runs programs.
    for (programs, expected) in [(None, true), (Some(true), true), (Some(false), false)] {
        let given = v1::Register {
            worker_id: "w".to_owned(),
            devices: vec!["cpu".to_owned()],
            programs,
            ..Default::default()
        };
        assert_eq!(registration(given).unwrap().0.programs, expected);
    }
    type Edit = fn(&mut v1::Register);
    let cases: [(&str, Edit); 7] = [
        (
            "host: 16777216 bytes given; accepted: at most 255",
            |given| {
                given.host = "h".repeat(16 << 20);
            },
        ),
        ("version: ", |given| given.version = "1\n".to_owned()),
        ("cpu_kind: ", |given| given.cpu_kind = "k".repeat(2_000)),
        ("collective_address: ", |given| {
            given.collective_address = "a".repeat(300)
        }),
        ("devices: ", |given| given.devices[0] = "d".repeat(65)),
        ("devices: 1025 given", |given| {
            given.devices = vec!["cpu".to_owned(); 1_025]
        }),
        ("running.job_id: ", |given| {
            given.running.push(v1::RunningAttempt {
                job_id: "j".repeat(257),
                ..Default::default()
            });
        }),
    ];
    for (expected, edit) in cases {
        let error = register(edit).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

/// A report of a running attempt.
fn report_of(body: Body) -> v1::Report {
    v1::Report {
        sequence: 1,
        job_id: "j-1".to_owned(),
        generation: 1,
        body: Some(body),
        ..Default::default()
    }
}

#[test]
fn what_a_report_says_is_told_to_its_attempt_and_ends_no_session() {
    let huge = (1 << 53) + 1;
    let progress = v1::Progress {
        step: huge,
        ..Default::default()
    };
    let batch = v1::ReportBatch {
        reports: vec![report_of(Body::Progress(progress))],
    };
    let taken = reports(batch).unwrap();
    let ReportBody::Refused { reason } = &taken[0].body else {
        panic!("{taken:?}");
    };
    assert_eq!(
        reason,
        "a report was refused: step: 9007199254740993 given; accepted: at most 9007199254740992"
    );
    // Its slot is free whatever else the last one says.
    let metric = v1::Metric {
        name: "a\nb".to_owned(),
        value: 1.0,
    };
    let ended = v1::Ended {
        outcome: v1::AttemptOutcome::Completed.into(),
        step: huge,
        test_metrics: vec![metric],
        ..Default::default()
    };
    let taken = report(report_of(Body::Ended(ended))).unwrap();
    let ReportBody::Ended { outcome, error, .. } = taken.body else {
        panic!("{taken:?}");
    };
    assert_eq!(outcome, Outcome::Error);
    assert!(error.contains("test_metrics.name: "), "{error}");
    // Numbers that are only shown are no reason to refuse anything.
    let started = v1::Started {
        steps_total: u64::MAX,
        ..Default::default()
    };
    let taken = report(report_of(Body::Started(started))).unwrap();
    let shown = ReportBody::Started {
        from_step: 0,
        steps_total: 1 << 53,
        epochs_total: 0,
        parameters: 0,
    };
    assert_eq!(taken.body, shown);
    let of = v1::RunningAttempt::default();
    let pulse = v1::Pulse {
        attempt: Some(of),
        step: u64::MAX,
        signs: 1,
    };
    assert_eq!(pulses(vec![pulse]).unwrap()[0].step, 1 << 53);
    let line = v1::LogLine {
        time_ms: u64::MAX,
        level: "\n".to_owned(),
        text: "kept".to_owned(),
        ..Default::default()
    };
    let batch = v1::LogBatch {
        lines: vec![line],
        ..Default::default()
    };
    let Ok(Event::Logs { lines, .. }) = log_event(SessionId(1), batch) else {
        panic!("refused");
    };
    assert_eq!(
        (lines[0].level.as_str(), lines[0].text.as_str()),
        ("info", "kept")
    );
}
