//! A trainer's state as a snapshot, and back.
//!
//! Tensors: `model/<name>` for parameters and running statistics, `optimizer/<name>/<slot>` for the
//! optimizer's state, `average/<name>` for averaged parameters, with the shape of their parameter. Everything else is JSON: the cursor, and the
//! epoch's sums as the bits of their f64 numbers, so that a restored run ends in the same bytes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::agreement;
use super::average::Average;
use super::optimizers::{Optimizer, Slot};
use super::rates::{Rates, Seen};
use super::totals::Totals;
use super::{Metrics, TrainError};
use crate::checkpoint::{NamedTensor, Snapshot};
use trainyard_network::{Network, Parameter};

/// Version of what `State` means. 1 had no digest of the data; it is still read.
const FORMAT: u32 = 2;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Complete epochs.
    pub(crate) epoch: u64,
    /// Steps taken in the epoch under way. All of them: only its validation is outstanding.
    pub(crate) step_in_epoch: u64,
    /// Steps taken in all.
    pub(crate) step: u64,
}

/// What must be equal for a run to go on where another stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) trial_seed: u64,
    pub(crate) virtual_shards: usize,
    pub(crate) batch_size: usize,
    /// Training samples in an epoch.
    pub(crate) samples: usize,
    /// Hexadecimal digits of [`Dataset::digest`](crate::data::Dataset::digest). `None`: not known.
    #[serde(default)]
    pub(crate) data: Option<String>,
    pub(crate) optimizer: String,
}

/// The kind of processor on which a run was trained from a step on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedOn {
    pub from_step: u64,
    /// See [`crate::collective::cpu_kind`].
    pub processor: String,
}

/// Changes of the processor that are kept, the newest: a run that moves that often cannot be replayed anyway.
const PROCESSORS_KEPT: usize = 16;

/// Adds where a run goes on to where it was before.
pub(crate) fn goes_on(
    mut trained_on: Vec<TrainedOn>,
    from_step: u64,
    processor: &str,
) -> Vec<TrainedOn> {
    if trained_on
        .last()
        .is_none_or(|last| last.processor != processor)
    {
        trained_on.push(TrainedOn {
            from_step,
            processor: processor.to_owned(),
        });
    }
    let oldest = trained_on.len().saturating_sub(PROCESSORS_KEPT);
    trained_on.split_off(oldest)
}

/// Where a snapshot's run was trained, oldest first; empty of one from before this was kept.
pub fn trained_on(snapshot: &Snapshot) -> Vec<TrainedOn> {
    let told = snapshot.state.get("trained_on");
    let told = told.and_then(|told| Vec::deserialize(told).ok());
    told.unwrap_or_default()
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    cursor: Cursor,
    identity: Identity,
    optimizer_steps: u64,
    /// [`Totals::to_bits`] of the epoch under way.
    totals: [u64; Totals::LEN],
    /// What the learning rate depends on besides the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plateau: Option<Seen>,
    #[serde(default)]
    trained_on: Vec<TrainedOn>,
    /// How global batches are cut. Unset: as before shards were even.
    #[serde(default)]
    even_shards: bool,
}

/// Whose snapshot a run goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The same trial's: all of it must be there.
    Own,
    /// A copy of another trial's, which may have had another optimizer or another set of its options: state that it
    /// lacks begins as that of a new trial.
    Copy,
}

/// What a restored run goes on from, besides its tensors.
pub(crate) struct Restored {
    pub(crate) cursor: Cursor,
    pub(crate) totals: Totals,
    /// See [`BatchPlan::uneven`](super::batches::BatchPlan).
    pub(crate) uneven: bool,
    pub(crate) trained_on: Vec<TrainedOn>,
    /// State that was not there and begins anew.
    pub(crate) begun: Vec<String>,
}

/// Everything that a snapshot is made of.
pub(crate) struct View<'a> {
    pub(crate) network: &'a Network,
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) rates: &'a Rates,
    pub(crate) average: Option<&'a Average>,
    pub(crate) identity: &'a Identity,
    pub(crate) cursor: Cursor,
    pub(crate) totals: Totals,
    pub(crate) uneven: bool,
    pub(crate) trained_on: &'a [TrainedOn],
}

impl View<'_> {
    /// Copies everything.
    pub(crate) fn snapshot(&self, metrics: Metrics) -> Result<Snapshot, TrainError> {
        let mut flat = vec![0.0; self.network.parameters_len()];
        self.network.read_parameters(&mut flat)?;
        let mut tensors = flat_tensors(self.network.parameters(), &flat, model_name);
        tensors.extend(
            self.network
                .running_statistics()
                .into_iter()
                .map(|tensor| NamedTensor {
                    name: model_name(&tensor.name),
                    shape: tensor.shape,
                    data: tensor.data,
                }),
        );
        for slot in self.optimizer.slots() {
            tensors.extend(flat_tensors(self.network.trained(), &slot.values, |name| {
                slot_name(name, slot.name)
            }));
        }
        if let Some(average) = self.average {
            let trained = self.network.trained();
            tensors.extend(flat_tensors(trained, average.values(), average_name));
        }
        let state = State {
            format: FORMAT,
            cursor: self.cursor,
            identity: self.identity.clone(),
            optimizer_steps: self.optimizer.steps(),
            totals: self.totals.to_bits(),
            plateau: self.rates.seen(),
            trained_on: self.trained_on.to_vec(),
            even_shards: !self.uneven,
        };
        let state = serde_json::to_value(state).map_err(|error| TrainError::Snapshot {
            what: "the trainer's state".to_owned(),
            given: error.to_string(),
            expected: "numbers that JSON can hold".to_owned(),
        })?;
        Ok(Snapshot {
            tensors,
            epoch: self.cursor.epoch,
            step: self.cursor.step,
            state,
            metrics,
        })
    }
}

/// Where a snapshot's content goes.
pub(crate) struct Place<'a> {
    pub(crate) network: &'a mut Network,
    pub(crate) optimizer: &'a mut Optimizer,
    pub(crate) rates: &'a mut Rates,
    pub(crate) average: Option<&'a mut Average>,
}

/// Puts a snapshot's content in place. Nothing is changed unless all of it fits. `data` says where
/// the data lies, for a message.
pub(crate) fn restore(
    snapshot: Snapshot,
    place: Place<'_>,
    identity: &Identity,
    (data, origin): (&str, Origin),
) -> Result<Restored, TrainError> {
    let state = read_state(snapshot.state)?;
    check_data(&state.identity, identity, data)?;
    check_identity(&state.identity, identity, origin)?;
    let mut found = by_name(snapshot.tensors);
    let mut taken = take_optimizer(&mut found, place.network, place.optimizer, &state, origin)?;
    let average = take_average(&mut found, &place, origin, &mut taken.begun)?;
    if state.plateau.is_none() && place.rates.seen().is_some() {
        if origin == Origin::Own {
            return Err(mismatch("the plateau's state", "missing", "there"));
        }
        taken.begun.push("what the plateau has seen".to_owned());
    }
    restore_model(&mut found, place.network)?;
    for (slot, values) in place.optimizer.slots_mut().iter_mut().zip(taken.slots) {
        slot.values = values;
    }
    place.optimizer.set_steps(taken.steps);
    place.rates.set_seen(state.plateau);
    if let (Some(average), Some(values)) = (place.average, average) {
        average.set_values(values);
    }
    Ok(Restored {
        cursor: state.cursor,
        totals: Totals::from_bits(state.totals),
        uneven: !state.even_shards,
        trained_on: state.trained_on,
        begun: taken.begun,
    })
}

/// The averaged parameters, if they are kept; those of a copy that has none begin with its parameters.
fn take_average(
    found: &mut Found,
    place: &Place<'_>,
    origin: Origin,
    begun: &mut Vec<String>,
) -> Result<Option<Vec<f32>>, TrainError> {
    let network = &*place.network;
    if place.average.is_none() {
        return Ok(None);
    }
    if origin == Origin::Copy && lacks(network, found, average_name) {
        begun.push("the average of the parameters".to_owned());
        let copied = network.trained().map(|parameter| {
            let tensor = found.get(&model_name(&parameter.name));
            tensor.map(|tensor| tensor.data.as_slice())
        });
        // What does not fit the network is refused with its parameters.
        return Ok(Some(copied.flatten().flatten().copied().collect()));
    }
    take_flat(network.trained(), found, average_name).map(Some)
}

/// An optimizer's state as a run goes on from it.
struct Taken {
    slots: Vec<Vec<f32>>,
    steps: u64,
    /// What of it begins anew.
    begun: Vec<String>,
}

fn take_optimizer(
    found: &mut Found,
    network: &Network,
    optimizer: &Optimizer,
    state: &State,
    origin: Origin,
) -> Result<Taken, TrainError> {
    let (name, other) = (optimizer.name(), &state.identity.optimizer);
    if name != other {
        // What has the same name in another optimizer means something else.
        return Ok(Taken {
            slots: optimizer.slots().iter().map(Slot::fresh).collect(),
            steps: 0,
            begun: vec![format!("the state of {name} (it has that of {other})")],
        });
    }
    let mut taken = Taken {
        slots: Vec::new(),
        steps: state.optimizer_steps,
        begun: Vec::new(),
    };
    for slot in optimizer.slots() {
        let tensor = |parameter: &str| slot_name(parameter, slot.name);
        if origin == Origin::Copy && lacks(network, found, tensor) {
            taken.begun.push(format!("`{}` of {name}", slot.name));
            taken.slots.push(slot.fresh());
        } else {
            taken
                .slots
                .push(take_flat(network.trained(), found, tensor)?);
        }
    }
    // Corrections for what a state began with count its own steps.
    if !taken.begun.is_empty() && taken.begun.len() == taken.slots.len() {
        taken.steps = 0;
    }
    Ok(taken)
}

/// Whether a snapshot has no such tensor of any parameter that is trained.
fn lacks(network: &Network, found: &Found, name: impl Fn(&str) -> String) -> bool {
    network
        .trained()
        .all(|parameter| !found.contains_key(&name(&parameter.name)))
}

/// Makes a snapshot one of a trial with this seed.
pub(crate) fn give_seed(snapshot: &mut Snapshot, trial_seed: u64) {
    if let Some(seed) = snapshot.state.pointer_mut("/identity/trial_seed") {
        *seed = trial_seed.into();
    }
}

fn restore_model(found: &mut Found, network: &mut Network) -> Result<(), TrainError> {
    let parameters = take_flat(network.parameters(), found, model_name)?;
    let mut statistics = Vec::new();
    for present in network.running_statistics() {
        let data = take(found, &model_name(&present.name), &present.shape)?;
        statistics.push(NamedTensor { data, ..present });
    }
    network.set_running_statistics(&statistics)?;
    network.write_parameters(&parameters)?;
    Ok(())
}

fn model_name(tensor: &str) -> String {
    format!("model/{tensor}")
}

fn average_name(parameter: &str) -> String {
    format!("average/{parameter}")
}

fn slot_name(parameter: &str, slot: &str) -> String {
    format!("optimizer/{parameter}/{slot}")
}

/// Cuts a flat buffer into tensors of the parameters' shapes.
fn flat_tensors<'a>(
    parameters: impl IntoIterator<Item = &'a Parameter>,
    flat: &[f32],
    name: impl Fn(&str) -> String,
) -> Vec<NamedTensor> {
    let mut rest = flat;
    let mut tensors = Vec::new();
    for parameter in parameters {
        let (own, after) = rest.split_at(parameter.var.elem_count());
        rest = after;
        tensors.push(NamedTensor {
            name: name(&parameter.name),
            shape: parameter.var.dims().to_vec(),
            data: own.to_vec(),
        });
    }
    tensors
}

type Found = HashMap<String, NamedTensor>;

fn by_name(tensors: Vec<NamedTensor>) -> Found {
    tensors
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect()
}

/// The reverse of [`flat_tensors`].
fn take_flat<'a>(
    parameters: impl IntoIterator<Item = &'a Parameter>,
    found: &mut Found,
    name: impl Fn(&str) -> String,
) -> Result<Vec<f32>, TrainError> {
    let mut flat = Vec::new();
    for parameter in parameters {
        flat.extend(take(found, &name(&parameter.name), parameter.var.dims())?);
    }
    Ok(flat)
}

fn take(found: &mut Found, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainError> {
    let wrong = |given: String| TrainError::Snapshot {
        what: format!("tensor `{name}`"),
        given,
        expected: format!("of shape {shape:?}"),
    };
    let tensor = found
        .remove(name)
        .ok_or_else(|| wrong("missing".to_owned()))?;
    if tensor.shape != shape || tensor.data.len() != shape.iter().product::<usize>() {
        return Err(wrong(format!("of shape {:?}", tensor.shape)));
    }
    Ok(tensor.data)
}

fn read_state(value: serde_json::Value) -> Result<State, TrainError> {
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format.is_some_and(|format| format > u64::from(FORMAT)) {
        return Err(mismatch("the state's format", format, Some(FORMAT)));
    }
    serde_json::from_value(value).map_err(|error| TrainError::Snapshot {
        what: "the trainer's state".to_owned(),
        given: format!("unreadable ({error})"),
        expected: format!("of format {FORMAT}"),
    })
}

fn check_data(saved: &Identity, ours: &Identity, data: &str) -> Result<(), TrainError> {
    match (&saved.data, &ours.data) {
        (Some(saved), Some(ours)) if saved != ours => Err(TrainError::OtherData {
            data: data.to_owned(),
            saved: agreement::shortened(saved),
            found: agreement::shortened(ours),
        }),
        _ => Ok(()),
    }
}

fn check_identity(saved: &Identity, ours: &Identity, origin: Origin) -> Result<(), TrainError> {
    let differ = |what, saved: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
        Err(mismatch(what, saved, ours))
    };
    if saved.virtual_shards != ours.virtual_shards {
        return differ(
            "virtual_shards",
            &saved.virtual_shards,
            &ours.virtual_shards,
        );
    }
    if saved.batch_size != ours.batch_size {
        return differ("batch_size", &saved.batch_size, &ours.batch_size);
    }
    if saved.samples != ours.samples {
        return differ(
            "the number of training samples",
            &saved.samples,
            &ours.samples,
        );
    }
    if saved.trial_seed != ours.trial_seed {
        return differ("the trial's seed", &saved.trial_seed, &ours.trial_seed);
    }
    if saved.optimizer != ours.optimizer && origin == Origin::Own {
        return differ("the optimizer", &saved.optimizer, &ours.optimizer);
    }
    Ok(())
}

fn mismatch(what: &str, given: impl std::fmt::Debug, expected: impl std::fmt::Debug) -> TrainError {
    TrainError::Snapshot {
        what: what.to_owned(),
        given: format!("{given:?}"),
        expected: format!("{expected:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_run_was_trained_is_kept_to_a_bound() {
        let kinds = |trained_on: &[TrainedOn]| -> Vec<(u64, String)> {
            let entries = trained_on.iter();
            entries
                .map(|on| (on.from_step, on.processor.clone()))
                .collect()
        };
        let mut trained_on = goes_on(Vec::new(), 0, "a");
        trained_on = goes_on(trained_on, 10, "a");
        trained_on = goes_on(trained_on, 20, "b");
        assert_eq!(
            kinds(&trained_on),
            [(0, "a".to_owned()), (20, "b".to_owned())]
        );
        for step in 0..100 {
            trained_on = goes_on(
                trained_on,
                100 + step,
                if step % 2 == 0 { "a" } else { "b" },
            );
        }
        assert_eq!(trained_on.len(), PROCESSORS_KEPT);
        assert_eq!(trained_on.last().map(|on| on.from_step), Some(199));
    }
}
