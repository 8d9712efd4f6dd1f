//! What `trial verify` found.

use std::fmt::Write as _;

use crate::view::output::{ReplayedStretch, TrialVerified, Verified};

pub(crate) fn trial_verified(verified: &TrialVerified) -> String {
    let mut told = String::new();
    for checkpoint in &verified.checkpoints {
        let Verified { manifest, .. } = checkpoint;
        // Writing to a string cannot fail.
        let _ = match &checkpoint.error {
            None => writeln!(told, "{manifest}: whole, {}", checkpoint.held()),
            Some(error) => writeln!(told, "{manifest}: NOT WHOLE: {error}"),
        };
    }
    if verified.checkpoints.is_empty() {
        told.push_str("no checkpoint is stored\n");
    }
    for stretch in &verified.replayed {
        told.push_str(&replayed(stretch, &verified.processor));
    }
    told.trim_end().to_owned()
}

fn replayed(stretch: &ReplayedStretch, own: &str) -> String {
    let unknown = || "a processor that was not kept".to_owned();
    let kinds = stretch.processors.iter().cloned();
    let kinds: Vec<String> = kinds.map(|kind| kind.unwrap_or_else(unknown)).collect();
    let kinds = kinds.join(", then ");
    let mut told = format!("steps {} to {}: ", stretch.from_step, stretch.to_step);
    let _ = match (stretch.same, &stretch.difference) {
        (None, _) => writeln!(
            told,
            "not compared: trained on {kinds}, and this machine is {own}: other kernels round otherwise"
        ),
        (Some(_), None) => {
            let values = stretch.values.unwrap_or_default();
            writeln!(
                told,
                "the same, {values} values (trained on {kinds}, and again on {own})"
            )
        }
        (Some(_), Some(found)) => writeln!(
            told,
            "DIFFERENT: {} is {} in the checkpoint and {} here; {} of {} values differ (trained on {kinds}, \
             and again on {own}): that machine or this one computes, keeps or stores wrongly",
            found.place,
            found.stored,
            found.replayed,
            found.values,
            stretch.values.unwrap_or_default()
        ),
    };
    told
}
