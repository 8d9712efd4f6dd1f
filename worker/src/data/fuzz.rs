//! Data files of any content: read, or refused with a place.

use std::io::Cursor;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use trainyard_common::spec::data::{CsvSpec, Task};
use trainyard_fuzz::Target;

use super::allowance::{Allowance, Limits};
use super::idx::{self, LabelKind};
use super::samples::Samples;
use super::source::Stream;
use super::table::{self, TableSettings};

/// Small, so that even short files have several.
const SHARD: usize = 3;

fn open(bytes: &[u8]) -> Stream {
    Box::new(Cursor::new(bytes.to_vec()))
}

/// More than most inputs need; changed ones go beyond it.
fn allowance() -> Allowance {
    Allowance::new(Limits::of_memory(16 << 10), CancellationToken::new())
}

fn is_whole(samples: &Samples) {
    assert!(samples.len > 0);
    assert_eq!(samples.shards.len(), samples.len.div_ceil(SHARD));
}

/// Header or not, and how cells are parted, is in the first byte.
#[test]
fn csv() {
    let read = |input: &[u8]| {
        let Some((choice, file)) = input.split_first() else {
            return "empty".to_owned();
        };
        let spec = json!({
            "url": "memory://fuzz.csv",
            "targets": [-1],
            "header": choice & 1 == 0,
            "delimiter": if choice & 2 == 0 { "," } else { ";" },
        });
        let spec: CsvSpec = serde_json::from_value(spec).unwrap();
        let settings = TableSettings {
            task: if choice & 4 == 0 {
                Task::Classification
            } else {
                Task::Regression
            },
            classes: (choice & 8 != 0).then_some(3),
            shard_samples: SHARD,
        };
        match table::read(&spec, open(file), settings, &allowance()) {
            Ok(table) => {
                is_whole(&table.samples);
                if let Some(names) = &table.names {
                    assert_eq!(names.len(), table.samples.sample_len);
                }
                format!("{} columns", table.samples.sample_len)
            }
            Err(error) => error.to_string(),
        }
    };
    Target::new("csv", &read)
        .words(&[
            "\n",
            "\r\n",
            "\r",
            ",",
            ";",
            "\"",
            "1e999",
            "nan",
            "-0",
            "\u{feff}",
            "inf",
            "4294967296",
        ])
        .run();
}

/// Two files: how long the first is stands before them.
#[test]
fn idx() {
    let read = |input: &[u8]| {
        let Some((length, files)) = input.split_first_chunk() else {
            return "short".to_owned();
        };
        let at = usize::from(u16::from_le_bytes(*length)).min(files.len());
        let (features, labels) = files.split_at(at);
        let kind = match length[0] % 3 {
            0 => LabelKind::Values,
            1 => LabelKind::Classes(None),
            _ => LabelKind::Classes(Some(10)),
        };
        let [features, labels] = [features, labels].map(open);
        let (features, labels) = (("memory://f", features), ("memory://l", labels));
        match idx::read(features, labels, kind, SHARD, &allowance()) {
            Ok(images) => {
                is_whole(&images.samples);
                assert_eq!(
                    images.shape.iter().product::<usize>(),
                    images.samples.sample_len
                );
                format!("{:?}", images.shape)
            }
            Err(error) => error.to_string(),
        }
    };
    let words = [
        "\u{0}\u{0}\u{8}\u{1}",
        "\u{0}\u{0}\u{8}\u{3}",
        "\u{0}\u{0}\u{0}\u{1}",
        "\u{0}\u{0}\u{0}\u{0}",
    ];
    Target::new("idx", &read).words(&words).run();
}
