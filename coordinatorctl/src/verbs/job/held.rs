//! What the four verbs that pause and resume say when it is done.

use trainyard_proto::v1;

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::view::convert;
use crate::view::output::Held;

pub(crate) fn show(
    global: &Global,
    job_id: String,
    trial_id: Option<u32>,
    held: &v1::HoldResponse,
) -> Outcome {
    let state = convert::job_state(held.state());
    let trial_state = held
        .trial_state
        .map(|_| convert::trial_state(held.trial_state()));
    match (global.output, trial_id, trial_state) {
        (Format::Json, ..) => print::json(&Held {
            job_id,
            state,
            trial_id,
            trial_state,
        }),
        (Format::Text, Some(trial), Some(trial_state)) => {
            print::line(&format!("trial {trial} of {job_id} is {trial_state}"))
        }
        (Format::Text, ..) => print::line(&format!("{job_id} is {state}")),
    }
}
