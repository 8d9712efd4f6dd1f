//! What people see: tables and descriptions of the shapes in `output`. Pure: text in, text out.

mod cluster;
mod job;
mod parts;
mod search;
mod spec;
mod trial;
mod verified;

pub(crate) use cluster::{artifacts, checkpoints, workers, workspaces};
pub(crate) use job::{best, job, job_detail, jobs, result};
pub(crate) use parts::metrics;
pub(crate) use search::{forecast, insight};
pub(crate) use spec::{model, preview, replayed, tensors};
pub(crate) use trial::{explanation, log_line, state as trial_state, trial_detail, trials};
pub(crate) use verified::trial_verified;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_proto::v1;

    use super::job::trials_done;
    use super::*;
    use crate::view::convert;
    use crate::view::output::{self, Best, LogLine, Metrics, ModelSummary, Trial};

    fn trial(trial_id: u32, params: &str, error: &str) -> Trial {
        convert::trial(&v1::TrialSummary {
            job_id: "digits-1".into(),
            trial_id,
            state: v1::TrialState::Completed as i32,
            params_json: params.into(),
            epoch: 2,
            epochs_total: 3,
            started_ms: 1_000,
            ended_ms: 3_500,
            best_value: Some(0.975),
            error: error.into(),
            ..Default::default()
        })
    }

    /// Cells of each line; two blanks or more stand between columns.
    fn cells(text: &str) -> Vec<Vec<&str>> {
        text.lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn trials_have_a_column_for_each_parameter() {
        let rows = [
            trial(0, r#"{"lr": 0.01, "units": 64}"#, ""),
            trial(1, r#"{"lr": 0.001}"#, ""),
        ];
        assert_eq!(
            cells(&trials(&rows)),
            [
                vec![
                    "TRIAL", "STATE", "lr", "units", "BEST", "EPOCHS", "TIME", "RESTARTS"
                ],
                vec!["0", "completed", "0.01", "64", "0.975", "2/3", "2.5 s", "0"],
                vec!["1", "completed", "0.001", "-", "0.975", "2/3", "2.5 s", "0"],
            ]
        );
    }

    #[test]
    fn errors_and_many_parameters_share_a_column() {
        let many = r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7}"#;
        let text = trials(&[trial(0, many, "no such file")]);
        assert!(
            text.contains("PARAMETERS") && text.contains("ERROR"),
            "{text}"
        );
        assert!(text.contains("a=1 b=2 c=3 d=4 e=5 f=6 g=7"), "{text}");
        assert!(text.contains("no such file"), "{text}");
    }

    #[test]
    fn a_job_without_known_total_counts_its_own_trials() {
        let job = convert::job(&v1::JobSummary {
            trials_running: 2,
            trials_completed: 3,
            trials_failed: 1,
            ..Default::default()
        });
        assert_eq!(trials_done(&job), "4/6");
    }

    #[test]
    fn a_model_adds_up() {
        let summary = ModelSummary {
            params: json!({}),
            input_shape: vec![64],
            layers: vec![
                output::Layer {
                    index: 0,
                    layer: "0".to_owned(),
                    depth: 0,
                    name: "dense".into(),
                    output_shape: vec![32],
                    parameters: 2_080,
                    non_trainable: 0,
                },
                output::Layer {
                    index: 1,
                    layer: "1".to_owned(),
                    depth: 0,
                    name: "batch_norm".into(),
                    output_shape: vec![32],
                    parameters: 64,
                    non_trainable: 64,
                },
            ],
            parameters: 2_144,
            frozen: 0,
            non_trainable: 64,
            tensors: vec![output::Tensor {
                name: "0.dense.kernel".to_owned(),
                shape: vec![64, 32],
                parameters: 2_048,
                frozen: true,
                learning_rate: None,
            }],
        };
        let listed = tensors(&summary);
        assert!(
            listed.contains("0.dense.kernel") && listed.contains("frozen"),
            "{listed}"
        );
        let text = model(&summary);
        assert!(text.contains("0.dense"), "{text}");
        assert!(text.contains("total:         2,208"), "{text}");
        assert!(text.contains("trainable:     2,144"), "{text}");
    }

    #[test]
    fn the_winner_shows_where_its_checkpoint_lies() {
        let winner = Best {
            job_id: "digits-1".into(),
            objective: Some("validation_accuracy".into()),
            maximize: true,
            value: Some(0.99),
            trial: trial(4, r#"{"lr": 0.01}"#, ""),
            test_metrics: serde_json::from_value(json!({"test_accuracy": 0.98})).unwrap(),
            checkpoint_url: Some("file:///d/checkpoints/digits-1/".into()),
            checkpoint: Some(output::CheckpointRef {
                manifest: "trials/4/7.json".into(),
                step: 7,
                epoch: 1,
                bytes: 1,
                digest: "d".into(),
                metrics: Metrics::new(),
            }),
        };
        let text = best(&winner);
        for part in [
            "4 of digits-1",
            "lr=0.01",
            "test_accuracy=0.98",
            "file:///d/checkpoints/digits-1/trials/4/7.json",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn log_lines_name_trial_level_and_other_ranks() {
        let mut line = LogLine {
            trial_id: 3,
            attempt: 0,
            rank: 0,
            sequence: 1,
            time_ms: 61_000,
            level: "info".into(),
            text: "epoch 1".into(),
        };
        assert_eq!(log_line(&line), "00:01:01 trial 3 info  epoch 1");
        line.rank = 2;
        assert_eq!(log_line(&line), "00:01:01 trial 3 rank 2 info  epoch 1");
    }
}
