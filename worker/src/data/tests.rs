//! Whole loads: from files, compressed files and memory stores.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use object_store::ObjectStoreExt;
use trainyard_common::store_url;
use trainyard_common::testing::report_skip;

use super::*;

const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist";

fn job(json: serde_json::Value) -> JobSpec {
    let mut spec = serde_json::json!({"name": "test"});
    spec.as_object_mut()
        .unwrap()
        .extend(json.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn csv_job(path: &Path, more: serde_json::Value) -> JobSpec {
    let mut csv = serde_json::json!({"url": path, "targets": [-1]});
    let mut spec = serde_json::json!({});
    for (key, value) in more.as_object().unwrap() {
        match key.as_str() {
            "csv" => csv
                .as_object_mut()
                .unwrap()
                .extend(value.as_object().unwrap().clone()),
            _ => spec[key] = value.clone(),
        }
    }
    spec["data"]["train"] = serde_json::json!({ "csv": csv });
    if spec.get("split").is_none() {
        spec["split"] = serde_json::json!({"validation": 0.25, "shuffle": false});
    }
    job(spec)
}

fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    dimensions
        .iter()
        .for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn idx_job(features: &Path, labels: &Path) -> JobSpec {
    job(serde_json::json!({
        "data": {"train": {"idx": {"features": features, "labels": labels}}, "shard_samples": 3},
        "split": {"validation": 0.25, "shuffle": false},
    }))
}

fn all(part: &Part) -> Batch {
    part.gather(&(0..part.len()).collect::<Vec<_>>())
}

async fn refused(spec: &JobSpec) -> String {
    load(spec).await.unwrap_err().to_string()
}

#[tokio::test]
async fn csv_to_parts() {
    let folder = tempfile::tempdir().unwrap();
    // 12 samples: x, id (ignored), class, y = 2x.
    let mut text = "x,id,class,y\n".to_owned();
    (0..12).for_each(|i| text += &format!("{i}.5, {i}00 ,{},{}\n", i % 3, 2 * i));
    for path in [
        file(&folder, "a.csv", text.as_bytes()),
        file(&folder, "a.csv.gz", &gzip(text.as_bytes())),
        file(
            &folder,
            "windows.csv",
            text.replace('\n', "\r\n").as_bytes(),
        ),
    ] {
        for shard_samples in [1, 5, 4096] {
            let spec = csv_job(
                &path,
                serde_json::json!({
                    "csv": {"targets": ["class"], "ignore": ["id"]},
                    "data": {"shard_samples": shard_samples},
                }),
            );
            let dataset = load(&spec).await.unwrap();
            assert_eq!(dataset.sample_shape, [2]);
            assert_eq!((dataset.classes, dataset.target_width), (Some(3), 1));
            let sizes = (
                dataset.train.len(),
                dataset.validation.len(),
                dataset.test.len(),
            );
            assert_eq!(sizes, (9, 3, 0));
            let batch = dataset.validation.gather(&[2, 0]);
            assert_eq!(batch.features, [11.5, 22.0, 9.5, 18.0]);
            assert_eq!(batch.targets, BatchTargets::Classes(vec![2, 0]));
            assert_eq!(batch.samples, 2);
        }
    }
}

#[tokio::test]
async fn regression_with_several_targets_and_no_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        "a.csv",
        b"1;2;3;4\n5;6;7;8\n9;10;11;12\n13;14;15;16e-1\n",
    );
    let spec = csv_job(
        &path,
        serde_json::json!({
            "csv": {"header": false, "delimiter": ";", "targets": [-1, 0]},
            "data": {"task": "regression", "shape": [2, 1, 1]},
        }),
    );
    let dataset = load(&spec).await.unwrap();
    assert_eq!(dataset.sample_shape, [2, 1, 1]);
    assert_eq!((dataset.classes, dataset.target_width), (None, 2));
    let batch = all(&dataset.train);
    assert_eq!(batch.features, [2., 3., 6., 7., 10., 11.]);
    assert_eq!(
        batch.targets,
        BatchTargets::Values(vec![4., 1., 8., 5., 12., 9.])
    );
    assert_eq!(
        all(&dataset.validation).targets,
        BatchTargets::Values(vec![1.6, 13.])
    );
}

#[tokio::test]
async fn bad_csv() {
    let folder = tempfile::tempdir().unwrap();
    let head = "a,b,label\n1,2,0\n3,4,1\n";
    let cases = [
        (format!("{head}5,6\n"), "line 4: found 2 fields, expected 3"),
        (
            format!("{head}\n5,6,0,9\n"),
            "line 5: found 4 fields, expected 3",
        ),
        (
            format!("{head}5,six,0\n"),
            "line 4: column `b`: `six` is not a number",
        ),
        (
            format!("{head}5,,0\n"),
            "line 4: column `b`: `` is empty, expected a number",
        ),
        (
            format!("{head}NaN,6,0\n"),
            "line 4: column `a`: `NaN` is not finite",
        ),
        (
            format!("{head}5,-inf,0\n"),
            "column `b`: `-inf` is not finite",
        ),
        (
            format!("{head}5,1e39,0\n"),
            "`1e39` is too large for a 32-bit float",
        ),
        (
            format!("{head}5,6,1.5\n"),
            "line 4: column `label`: label 1.5 is not a whole number from 0",
        ),
        (format!("{head}5,6,-1\n"), "label -1 is not a whole number"),
        (
            format!("{head}5,6,2\n"),
            "line 4: column `label`: label 2 is not below the 2 classes (0 to 1)",
        ),
        ("a,b,label\n".to_owned(), "holds no samples"),
        (String::new(), "holds no samples"),
    ];
    for (content, expected) in cases {
        // Line numbers do not depend on how lines end, nor on whether the last one does.
        for content in [
            content.clone(),
            content.replace('\n', "\r\n"),
            content.trim_end().to_owned(),
        ] {
            let path = file(&folder, "bad.csv", content.as_bytes());
            let spec = csv_job(&path, serde_json::json!({"data": {"classes": 2}}));
            let message = refused(&spec).await;
            assert!(message.contains(expected), "{message}\nexpected {expected}");
            assert!(message.contains("bad.csv"), "{message}");
        }
    }
}

#[tokio::test]
async fn bad_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "a.csv", b"a,b,b,label\n1,2,0,0\n3,4,1,1\n");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let cases = [
        (
            r#"{"csv": {"targets": ["lable"]}}"#,
            "`targets`: there is no column `lable`; known: a, b, b, label",
        ),
        (
            r#"{"csv": {"ignore": ["c"]}}"#,
            "`ignore`: there is no column `c`; known: a, b, b, label",
        ),
        (
            r#"{"csv": {"targets": [4]}}"#,
            "there is no column 4; the file has 4 (0 to 3, or -4 to -1)",
        ),
        (r#"{"csv": {"targets": [-5]}}"#, "there is no column -5"),
        (r#"{"csv": {"targets": ["b"]}}"#, "several columns `b`"),
        (
            r#"{"csv": {"ignore": ["label"]}}"#,
            "`ignore`: column `label` is named twice",
        ),
        (r#"{"csv": {"targets": [0, 1]}}"#, "2 columns are named"),
        (r#"{"csv": {"targets": []}}"#, "no column is named"),
        (
            r#"{"csv": {"ignore": [0, 1, 2]}}"#,
            "no column is left for features",
        ),
        (
            r#"{"csv": {"header": false, "targets": ["a"]}}"#,
            "the file has no header",
        ),
        (
            r#"{"csv": {"delimiter": ";;"}}"#,
            "`;;` is not one ASCII character",
        ),
        (
            r#"{"data": {"shape": [1, 2, 2]}}"#,
            "data.shape [1, 2, 2] is 4 values, but a sample of",
        ),
        (
            r#"{"data": {"shape": [4294967296, 4294967296, 4]}}"#,
            "is too many values",
        ),
        (
            r#"{"split": {"validation": 0.1}}"#,
            "split.validation: 0.1 of 2 samples is less than one",
        ),
        (
            r#"{"training": {"limit_samples": 0}}"#,
            "training.limit_samples: 0 is not at least 1",
        ),
        (
            r#"{"data": {"shard_samples": 0}}"#,
            "data.shard_samples: 0 is not at least 1",
        ),
        (
            r#"{"data": {"task": "regression"}, "split": {"validation": 0.5, "stratify": true}}"#,
            "split.stratify: needs `data.task: classification`",
        ),
    ];
    for (more, expected) in cases {
        let message = refused(&csv_job(&path, json(more))).await;
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
}

#[tokio::test]
async fn numbers_that_are_no_classes() {
    let folder = tempfile::tempdir().unwrap();
    let years = file(&folder, "years.csv", b"a,year\n1,2019\n2,2020\n");
    let message = refused(&csv_job(&years, serde_json::json!({}))).await;
    assert!(
        message.contains("labels of") && message.contains("go up to 2020"),
        "{message}"
    );
}

#[tokio::test]
async fn labels_from_1_and_numbers_to_predict_get_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let two = serde_json::json!({"data": {"classes": 2}});
    let from_1 = file(&folder, "a.csv", b"a,y\n1,1\n2,2\n");
    let message = refused(&csv_job(&from_1, two.clone())).await;
    assert!(
        message.contains("if these begin with 1, take 1 off each"),
        "{message}"
    );
    let far = file(&folder, "b.csv", b"a,y\n1,1\n2,7\n");
    let message = refused(&csv_job(&far, two)).await;
    assert!(!message.contains("begin with 1"), "{message}");
    let number = file(&folder, "c.csv", b"a,y\n1,0.5\n2,1\n");
    let message = refused(&csv_job(&number, serde_json::json!({}))).await;
    assert!(message.contains("take `task: regression`"), "{message}");
    let (features, labels) = (idx(&[3, 1, 1], &[1, 2, 3]), idx(&[3], &[1, 2, 3]));
    let (features, labels) = (file(&folder, "f", &features), file(&folder, "l", &labels));
    let mut spec = idx_job(&features, &labels);
    spec.data.as_mut().unwrap().classes = Some(3);
    let message = refused(&spec).await;
    assert!(
        message.contains("label 3") && message.contains("begin with 1"),
        "{message}"
    );
}

#[tokio::test]
async fn channels_are_scaled_of_images_alone_whoever_tells_the_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "a.csv", b"a,b,y\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n");
    let preprocess = serde_json::json!({"scaling": "standard", "per": "channel"});
    for data in [serde_json::json!({}), serde_json::json!({"shape": [2]})] {
        let spec = csv_job(
            &path,
            serde_json::json!({"preprocess": preprocess, "data": data}),
        );
        let message = refused(&spec).await;
        assert!(
            message.contains("preprocess.per: `channel` with flat samples"),
            "{message}"
        );
    }
    let image = serde_json::json!({"preprocess": preprocess, "data": {"shape": [2, 1, 1]}});
    load(&csv_job(&path, image)).await.unwrap();
}

#[tokio::test]
async fn missing_files_and_wrong_urls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.csv");
    let message = refused(&csv_job(&path, serde_json::json!({}))).await;
    assert_eq!(message, format!("data: there is no {}", path.display()));
    let path = Path::new("/usr/share/datasets/fashion-mnist/none.gz");
    let message = refused(&idx_job(path, path)).await;
    assert!(
        message.contains("apt install dataset-fashion-mnist"),
        "{message}"
    );
    let message = refused(&csv_job(Path::new("ftp://host/a"), serde_json::json!({}))).await;
    assert!(message.contains("unknown scheme `ftp`"), "{message}");
    // A folder is not a file.
    let message = refused(&csv_job(folder.path(), serde_json::json!({}))).await;
    assert!(
        message.contains(folder.path().to_str().unwrap()),
        "{message}"
    );
    assert!(matches!(
        load(&job(serde_json::json!({}))).await,
        Err(DataError::NoData)
    ));
}

#[tokio::test]
async fn idx_to_parts() {
    let folder = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..8 * 6).collect();
    let features = idx(&[8, 2, 3], &pixels);
    let labels = idx(&[8], &[0, 1, 2, 0, 1, 2, 0, 3]);
    for (features, labels) in [
        (file(&folder, "f", &features), file(&folder, "l", &labels)),
        (
            file(&folder, "f.gz", &gzip(&features)),
            file(&folder, "l.gz", &gzip(&labels)),
        ),
    ] {
        let dataset = load(&idx_job(&features, &labels)).await.unwrap();
        assert_eq!(dataset.sample_shape, [1, 2, 3]);
        assert_eq!(dataset.classes, Some(4));
        let batch = dataset.validation.gather(&[1]);
        assert_eq!(batch.features, [42., 43., 44., 45., 46., 47.]);
        assert_eq!(batch.targets, BatchTargets::Classes(vec![3]));
        let mut spec = idx_job(&features, &labels);
        spec.data.as_mut().unwrap().task = Task::Regression;
        let dataset = load(&spec).await.unwrap();
        let batch = dataset.validation.gather(&[1]);
        assert_eq!(batch.targets, BatchTargets::Values(vec![3.0]));
    }
}

type IdxCase = (Vec<u8>, Vec<u8>, &'static str);

async fn refuse_idx(cases: Vec<IdxCase>) {
    let folder = tempfile::tempdir().unwrap();
    for (features, labels, expected) in cases {
        let (features, labels) = (file(&folder, "f", &features), file(&folder, "l", &labels));
        let mut spec = idx_job(&features, &labels);
        spec.data.as_mut().unwrap().classes = Some(2);
        let message = refused(&spec).await;
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
}

fn good_idx() -> (Vec<u8>, Vec<u8>) {
    (idx(&[4, 1, 2], &[0; 8]), idx(&[4], &[0, 1, 0, 1]))
}

#[tokio::test]
async fn bad_idx_headers() {
    let (good, labels) = good_idx();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let huge = u32::MAX;
    let cases = [
        (good[..9].to_vec(), "it ends within its header"),
        (vec![], "it ends within its header"),
        (
            with(0, 0x50),
            "it begins with 50 00 08 03, IDX begins with 00 00 08",
        ),
        (
            with(2, 0x0D),
            "type 0x0d (32-bit floats); only unsigned bytes (0x08)",
        ),
        (with(3, 9), "it has 9 dimensions"),
        (labels.clone(), "are features and labels exchanged?"),
        (idx(&[4, 0, 2], &[]), "shape [1, 0, 2] holds nothing"),
        // A header alone reserves no memory.
        (idx(&[huge, 60_000, 60_000], &[1]), "found 17"),
        (idx(&[huge, huge, huge], &[1]), "overflow"),
    ];
    let cases = cases.map(|(features, expected)| (features, labels.clone(), expected));
    refuse_idx(cases.into()).await;
}

#[tokio::test]
async fn bad_idx_contents() {
    let (good, labels) = good_idx();
    refuse_idx(vec![
        (
            good[..20].to_vec(),
            labels.clone(),
            "f is not a usable IDX file: it is truncated: its header [4, 1, 2] promises 24 bytes, found 20",
        ),
        (
            [good.clone(), vec![1]].concat(),
            labels.clone(),
            "but 1 more follow",
        ),
        (
            gzip(&good)[..25].to_vec(),
            labels,
            "f is not a whole gzip file: the compressed data ends too early",
        ),
        (
            good.clone(),
            good.clone(),
            "l is not a usable IDX file: it has 3 dimensions",
        ),
        (
            good.clone(),
            idx(&[3], &[0, 1, 0]),
            "f holds 4 samples, but",
        ),
        (
            good,
            idx(&[4], &[0, 1, 0, 2]),
            "l sample 3 (from 0): label 2 is not below the 2 classes",
        ),
        (idx(&[0, 1, 2], &[]), idx(&[0], &[]), "holds no samples"),
    ])
    .await;
}

#[tokio::test]
async fn a_truncated_gzip_of_lines_is_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "a,y\n".to_owned();
    (0..1_000).for_each(|i| text += &format!("{},{}\n", i * 37 % 101, i % 2));
    let whole = gzip(text.as_bytes());
    let path = file(&folder, "a.csv.gz", &whole[..whole.len() / 2]);
    let spec = csv_job(&path, serde_json::json!({}));
    let error = load(&spec).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("a.csv.gz is not a whole gzip"),
        "{message}"
    );
}

#[tokio::test]
async fn memory_store_streams() {
    let url = "memory://data-tests/digits/a.csv.gz";
    let mut text = "a,b\n".to_owned();
    (0..50_000).for_each(|i| text += &format!("{},{}\n", i, i % 10));
    let (store, path) = store_url::open(url).unwrap();
    store
        .put(&path, gzip(text.as_bytes()).into())
        .await
        .unwrap();
    let spec = csv_job(Path::new(url), serde_json::json!({}));
    let dataset = load(&spec).await.unwrap();
    assert_eq!((dataset.train.len(), dataset.classes), (37_500, Some(10)));
    let batch = dataset.validation.gather(&[12_499]);
    assert_eq!(batch.features, [49_999.0]);
}

/// Expected: mean and population deviation (or smallest and largest) of the first three rows.
#[tokio::test]
async fn scaling_is_learnt_on_the_training_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        "a.csv",
        b"a,b,c,y\n0,7,10,0\n1,7,10,1\n2,7,40,0\n10,8,100,1\n",
    );
    let part = |scaling: &'static str, per: &'static str, name: &'static str| {
        let spec = csv_job(
            &path,
            serde_json::json!({
                "preprocess": {"scaling": scaling, "per": per},
                "data": {"shape": [3, 1, 1]},
            }),
        );
        async move {
            let dataset = load(&spec).await.unwrap();
            let part = if name == "train" {
                dataset.train
            } else {
                dataset.validation
            };
            all(&part).features
        }
    };
    let close = |found: Vec<f32>, expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5,
                "{found} {expected}"
            );
        }
    };
    // Column a: mean 1, variance 2/3; b is constant; c: mean 20, variance 200.
    let (da, dc) = ((2f64 / 3.0).sqrt(), 200f64.sqrt());
    for per in ["feature", "channel"] {
        close(
            part("standard", per, "train").await,
            &[
                -1.0 / da,
                0.,
                -10.0 / dc,
                0.,
                0.,
                -10.0 / dc,
                1.0 / da,
                0.,
                20.0 / dc,
            ],
        );
        close(
            part("standard", per, "validation").await,
            &[9.0 / da, 0., 80.0 / dc],
        );
        close(part("min_max", per, "validation").await, &[5.0, 0.0, 3.0]);
    }
    close(
        part("min_max", "dataset", "validation").await,
        &[0.25, 0.2, 2.5],
    );
    close(
        part("min_max", "dataset", "train").await,
        &[0., 0.175, 0.25, 0.025, 0.175, 0.25, 0.05, 0.175, 1.0],
    );
}

#[tokio::test]
async fn a_constant_feature_becomes_zero_though_its_mean_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "a,y\n".to_owned();
    (0..1_000).for_each(|i| text += &format!("0.1,{}\n", i % 2));
    let path = file(&folder, "a.csv", text.as_bytes());
    let spec = csv_job(
        &path,
        serde_json::json!({"preprocess": {"scaling": "standard"}}),
    );
    let dataset = load(&spec).await.unwrap();
    let features = all(&dataset.train).features;
    assert!(features.iter().all(|&value| value == 0.0), "{features:?}");
}

#[tokio::test]
async fn limit_cuts_each_part_before_scaling() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "a,y\n".to_owned();
    (0..100).for_each(|i| text += &format!("{i},{}\n", i % 2));
    let path = file(&folder, "a.csv", text.as_bytes());
    let spec = csv_job(
        &path,
        serde_json::json!({
            "training": {"limit_samples": 11},
            "split": {"validation": 0.2, "test": 0.05, "shuffle": false},
            "preprocess": {"scaling": "min_max"},
        }),
    );
    let dataset = load(&spec).await.unwrap();
    let sizes = (
        dataset.train.len(),
        dataset.validation.len(),
        dataset.test.len(),
    );
    assert_eq!(sizes, (11, 11, 5));
    // The training part is 0 to 10, so 75 becomes 7.5.
    assert_eq!(all(&dataset.validation).features[0], 7.5);
}

#[tokio::test]
async fn stratified_and_seeded() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "a,y\n".to_owned();
    // Sorted by class: 60, 30 and 10 samples.
    (0..100)
        .for_each(|i| text += &format!("{i},{}\n", usize::from(i >= 60) + usize::from(i >= 90)));
    let path = file(&folder, "a.csv", text.as_bytes());
    let load = |seed: u64, shuffle: bool| {
        let spec = csv_job(
            &path,
            serde_json::json!({
                "seed": seed,
                "split": {"validation": 0.2, "test": 0.1, "stratify": true, "shuffle": shuffle},
            }),
        );
        async move { load(&spec).await.unwrap() }
    };
    for shuffle in [true, false] {
        let dataset = load(1, shuffle).await;
        let counts = |part: &Part| {
            let BatchTargets::Classes(classes) = all(part).targets else {
                panic!("classes");
            };
            [0, 1, 2].map(|class| classes.iter().filter(|&&c| c == class).count())
        };
        assert_eq!(counts(&dataset.train), [42, 21, 7]);
        assert_eq!(counts(&dataset.validation), [12, 6, 2]);
        assert_eq!(counts(&dataset.test), [6, 3, 1]);
    }
    let order = |dataset: &Dataset| all(&dataset.train).features;
    assert_eq!(order(&load(1, true).await), order(&load(1, true).await));
    assert_ne!(order(&load(1, true).await), order(&load(2, true).await));
}

#[tokio::test]
async fn a_test_source_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let train = file(&folder, "train.csv", b"a,b,y\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n");
    let job = |name: &str, content: &str| {
        let test = file(&folder, name, content.as_bytes());
        csv_job(
            &train,
            serde_json::json!({
                "data": {"test": {"csv": {"url": test, "targets": ["y"]}}},
                "preprocess": {"scaling": "min_max"},
            }),
        )
    };
    let dataset = load(&job("t.csv", "a,b,y\n3,4,1\n")).await.unwrap();
    assert_eq!(all(&dataset.test).features, [0.5, 0.5]);
    assert_eq!(dataset.train.len(), 3);
    for (content, expected) in [
        ("a,y\n3,1\n", "t.csv has 1 values, one of"),
        ("b,a,y\n3,4,1\n", "the feature column `b` where"),
        ("a,b,y\n3,4,2\n", "label 2 is not below the 2 classes"),
        ("a,b,y\n", "t.csv holds no samples"),
    ] {
        let message = refused(&job("t.csv", content)).await;
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
    let mut spec = job("t.csv", "a,b,y\n3,4,1\n");
    spec.split.test = 0.1;
    assert!(
        refused(&spec)
            .await
            .contains("split.test: must be 0 with `data.test`")
    );
}

/// As an attempt loads it.
async fn shared(spec: &JobSpec) -> Result<Arc<Dataset>, DataError> {
    load_shared(spec, Limits::of_memory(1 << 30), &CancellationToken::new()).await
}

#[tokio::test]
async fn trials_share_a_dataset_while_they_hold_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "a.csv", b"a,y\n1,0\n2,1\n3,0\n4,1\n");
    let spec = csv_job(&path, serde_json::json!({}));
    let (first, second) = tokio::join!(shared(&spec), shared(&spec));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    // Another setting, or another content, is another dataset.
    let mut other = spec.clone();
    other.training.limit_samples = Some(1);
    assert!(!Arc::ptr_eq(&first, &shared(&other).await.unwrap()));
    file(&folder, "a.csv", b"a,y\n1,0\n2,1\n3,0\n4,1\n5,0\n");
    let changed = shared(&spec).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &changed));
    assert_eq!(changed.train.len() + changed.validation.len(), 5);
    let weak = Arc::downgrade(&first);
    drop((first, second));
    assert!(
        weak.upgrade().is_none(),
        "the cache holds nothing by itself"
    );
}

#[test]
fn loader_gives_every_step_in_order() {
    let part = Part::in_memory(
        1,
        (0..10).map(|i| i as f32).collect(),
        BatchTargets::Classes(vec![0; 10]),
    );
    let plan: Vec<Vec<Vec<usize>>> = (0..5)
        .map(|step| vec![vec![step * 2, 1], vec![], vec![9]])
        .collect();
    let mut loader = Loader::start(part, plan.into_iter(), 2);
    for step in 0..5 {
        let shards = loader.next().unwrap();
        assert_eq!(shards.len(), 3);
        assert_eq!(shards[0].features, [step as f32 * 2.0, 1.0]);
        assert_eq!((shards[1].samples, shards[1].features.len()), (0, 0));
        assert_eq!(shards[1].targets, BatchTargets::Classes(vec![]));
    }
    assert!(loader.next().is_none());
    assert!(loader.next().is_none());
}

#[test]
fn loader_stops_when_dropped_and_passes_panics_on() {
    let part = Part::in_memory(1, vec![1.0; 4], BatchTargets::Values(vec![0.0; 4]));
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let endless = std::iter::repeat_with(move || {
        let _ = &held;
        vec![vec![0, 1]]
    });
    let mut loader = Loader::start(part.clone(), endless, 3);
    assert!(loader.next().is_some());
    drop(loader);
    assert_eq!(
        Arc::strong_count(&token),
        1,
        "the thread and its plan are gone"
    );

    let mut loader = Loader::start(part, vec![vec![vec![0]], vec![vec![4]]].into_iter(), 1);
    assert!(loader.next().is_some());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loader.next()));
    assert!(panic.is_err(), "position 4 of 4 is an error, not an end");
}

#[tokio::test]
async fn the_real_fashion_mnist() {
    if !Path::new(FASHION_MNIST).is_dir() {
        let reason = format!("{FASHION_MNIST} is not there: apt install dataset-fashion-mnist");
        report_skip("data::the_real_fashion_mnist", &reason);
        return;
    }
    let source = |part: &str| {
        serde_json::json!({"idx": {
            "features": format!("file://{FASHION_MNIST}/{part}-images-idx3-ubyte.gz"),
            "labels": format!("{FASHION_MNIST}/{part}-labels-idx1-ubyte.gz"),
        }})
    };
    let spec = job(serde_json::json!({
        "data": {"train": source("train"), "test": source("t10k")},
        "split": {"validation": 0.1, "stratify": true},
        "preprocess": {"scaling": "min_max", "per": "dataset"},
    }));
    let dataset = load(&spec).await.unwrap();
    assert_eq!(dataset.sample_shape, [1, 28, 28]);
    assert_eq!(dataset.classes, Some(10));
    let sizes = (
        dataset.train.len(),
        dataset.validation.len(),
        dataset.test.len(),
    );
    assert_eq!(sizes, (54_000, 6_000, 10_000));
    let BatchTargets::Classes(classes) = all(&dataset.validation).targets else {
        panic!("classes");
    };
    for class in 0..10 {
        assert_eq!(classes.iter().filter(|&&c| c == class).count(), 600);
    }
    // The published mean of the training images, 0.2860 of 1; ours are 9 tenths of them.
    let batch = all(&dataset.train);
    let sum: f64 = batch.features.iter().map(|&value| f64::from(value)).sum();
    let mean = sum / batch.features.len() as f64;
    assert!((mean - 0.2860).abs() < 0.001, "{mean}");
    // The first test image is an ankle boot.
    assert_eq!(
        dataset.test.gather(&[0]).targets,
        BatchTargets::Classes(vec![9])
    );
}

fn within(bytes: u64, memory_bytes: u64) -> Limits {
    Limits {
        bytes,
        memory_bytes,
    }
}

async fn refused_within(spec: &JobSpec, limits: Limits) -> DataError {
    let loaded = load_within(spec, limits, &CancellationToken::new()).await;
    loaded.unwrap_err()
}

#[tokio::test]
async fn only_regular_files_are_read_and_what_links_lead_to() {
    let folder = tempfile::tempdir().unwrap();
    let real = file(&folder, "real.csv", b"x,y\n1,0\n2,1\n3,0\n4,1\n");
    let link = folder.path().join("link.csv");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(
        load(&csv_job(&link, serde_json::json!({})))
            .await
            .unwrap()
            .train
            .len(),
        3
    );
    let pipe = folder.path().join("pipe.csv");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let to_device = folder.path().join("device.csv");
    std::os::unix::fs::symlink("/dev/zero", &to_device).unwrap();
    for (path, found) in [
        (Path::new("/dev/zero"), "a device"),
        (&to_device, "a device"),
        (&pipe, "a pipe"),
        (folder.path(), "a folder"),
    ] {
        let spec = csv_job(path, serde_json::json!({}));
        let expected = format!("is {found}; accepted are regular files");
        let error = refused(&spec).await;
        assert!(error.contains(&expected), "{error}");
        // What asks only for the version of a file does not wait for it either.
        let error = shared(&spec).await.unwrap_err().to_string();
        assert!(error.contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn files_that_the_kernel_makes_are_no_data() {
    for path in ["/proc/self/status", "/sys/kernel/uevent_seqnum"] {
        if Path::new(path).exists() {
            let error = refused(&csv_job(Path::new(path), serde_json::json!({}))).await;
            assert!(
                error.contains("is made by the kernel as it is read"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn what_unpacks_to_far_more_is_refused_by_bytes_and_by_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = b"x,y\n".to_vec();
    (0..2_000_000).for_each(|_| text.extend(b"1,0\n"));
    let packed = gzip(&text);
    assert!(packed.len() < text.len() / 100);
    let path = file(&folder, "bomb.csv.gz", &packed);
    let spec = csv_job(&path, serde_json::json!({}));
    let error = refused_within(&spec, within(1 << 20, 1 << 30)).await;
    let DataError::TooLarge {
        what: "unpacked",
        found,
        limit,
        ..
    } = error
    else {
        panic!("{error}");
    };
    // It is noticed at once.
    assert!(limit == 1 << 20 && found < 2 << 20, "{found}");
    let text = refused_within(&spec, within(1 << 30, 1 << 20))
        .await
        .to_string();
    assert!(text.contains("of memory are more than 1048576"), "{text}");
    assert!(
        text.contains("bomb.csv.gz") && text.contains("data_memory_bytes"),
        "{text}"
    );
    // Where it is given enough it is read.
    let loaded = load_within(&spec, within(1 << 30, 1 << 27), &CancellationToken::new()).await;
    assert_eq!(loaded.unwrap().train.len(), 1_500_000);
    // A plain file tells its size before it is read.
    let plain = file(&folder, "plain.csv", "x,y\n1,0\n".repeat(10).as_bytes());
    let error = refused_within(&csv_job(&plain, serde_json::json!({})), within(10, 1 << 20)).await;
    assert!(
        error.to_string().contains("as stored are more than 10"),
        "{error}"
    );
}

#[tokio::test]
async fn lines_that_end_with_carriage_returns_alone_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "mac.csv", b"x,y\r1,0\r2,1\r3,0\r4,1\r");
    let error = refused(&csv_job(&path, serde_json::json!({}))).await;
    assert!(error.contains("carriage returns alone"), "{error}");
}

#[tokio::test]
async fn rows_and_columns_without_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let long = file(&folder, "long.csv.gz", &gzip(&vec![b'1'; 40 << 20]));
    let error = refused(&csv_job(&long, serde_json::json!({}))).await;
    assert!(
        error.contains("a row of more than 16777216 bytes"),
        "{error}"
    );
    // The quote is never closed.
    let text = format!("x,y\n1,\"0\n{}", "2,1\n".repeat(5 << 20));
    let quote = file(&folder, "quote.csv", text.as_bytes());
    let error = refused(&csv_job(&quote, serde_json::json!({}))).await;
    assert!(error.contains("is every quote closed?"), "{error}");
    let wide = file(&folder, "wide.csv", &vec![b','; 1 << 20]);
    let error = refused(&csv_job(&wide, serde_json::json!({}))).await;
    assert!(
        error.contains("1048577 columns, accepted are at most 1048576"),
        "{error}"
    );
}

#[tokio::test]
async fn sizes_that_files_give_are_not_trusted_with_memory() {
    let folder = tempfile::tempdir().unwrap();
    let labels = file(&folder, "labels", &idx(&[1], &[0]));
    // 4 GiB of one sample are promised, none come.
    let promised = file(&folder, "promised", &idx(&[1, u32::MAX], &[]));
    let error = refused_within(&idx_job(&promised, &labels), within(1 << 40, 1 << 21)).await;
    assert!(error.to_string().contains("truncated"), "{error}");
    let empty = file(
        &folder,
        "empty",
        &idx(&[0, u32::MAX, u32::MAX, u32::MAX], &[]),
    );
    let error = refused(&idx_job(&empty, &labels)).await;
    assert!(error.contains("overflow"), "{error}");
    let large = file(
        &folder,
        "large.gz",
        &gzip(&idx(&[1, 8 << 20], &vec![0; 8 << 20])),
    );
    let error = refused_within(&idx_job(&large, &labels), within(1 << 40, 1 << 22)).await;
    assert!(
        error.to_string().contains("of memory are more than"),
        "{error}"
    );
    // One class in four thousand million would be counted apart.
    let path = file(&folder, "class.csv", b"x,y\n1,3999999999\n2,1\n3,0\n4,1\n");
    let spec = csv_job(
        &path,
        serde_json::json!({
            "data": {"classes": 4_000_000_000u32},
            "split": {"validation": 0.25, "stratify": true},
        }),
    );
    let error = refused_within(&spec, within(1 << 40, 1 << 30)).await;
    assert!(
        error.to_string().contains("of memory are more than"),
        "{error}"
    );
}

#[tokio::test]
async fn a_cancelled_load_ends_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "a.csv", b"x,y\n1,0\n2,1\n3,0\n4,1\n");
    let spec = csv_job(&path, serde_json::json!({}));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let limits = within(1 << 20, 1 << 20);
    let error = load_within(&spec, limits, &cancel).await.unwrap_err();
    assert!(matches!(error, DataError::Cancelled), "{error}");
    let error = load_shared(&spec, limits, &cancel).await.unwrap_err();
    assert!(matches!(error, DataError::Cancelled), "{error}");
}
