//! The loop over epochs, steps and virtual shards, for one trial on one rank.

use std::sync::Arc;

use trainyard_common::rng::Key;
use trainyard_common::spec::TrialSpec;

use super::agreement::same_data;
use super::average::Average;
use super::batches::BatchPlan;
use super::building;
use super::clipping::Gradient;
use super::evaluation::Judged;
use super::groups::Groups;
use super::optimizers::Optimizer;
use super::rates::Rates;
use super::settings::Settings;
use super::shard::{SCALARS, compute, read_scalars};
use super::state::{self, Cursor, Identity, Origin, Place, TrainedOn, View};
use super::totals::Totals;
use super::verification::{Verification, digest_of, state_digest};
use super::{
    Finish, Metrics, Observer, PartName, Progress, SnapshotReason, Started, StopMode, TrainError,
};
use crate::checkpoint::Snapshot;
use crate::collective::partition::{Shape, check, owned_leaves};
use crate::collective::{Group, TreeSum, cpu_kind};
use crate::data::{Batch, Dataset, Loader};
use trainyard_network::Network;

/// Trains one trial, as one rank of its group. Uses the current rayon pool.
pub struct Trainer {
    pub(super) settings: Settings,
    pub(super) dataset: Arc<Dataset>,
    pub(super) group: Box<dyn Group>,
    pub(super) network: Network,
    optimizer: Optimizer,
    pub(super) rates: Rates,
    groups: Groups,
    /// Of the parameters, and judged instead of them.
    pub(super) average: Option<Average>,
    sums: TreeSum,
    pub(super) plan: BatchPlan,
    identity: Identity,
    pub(super) cursor: Cursor,
    /// Of the epoch under way.
    pub(super) totals: Totals,
    trained_on: Vec<TrainedOn>,
    verification: Verification,
    /// Complete epochs after which the run pauses; nothing that is computed depends on it.
    pause_after: Option<u64>,
}

impl Trainer {
    /// Every rank must call it: they see to it that they have the same data.
    ///
    /// # Errors
    /// `Spec` if the spec cannot be trained: no model, more ranks than virtual shards; `MixedData` if
    /// ranks have different data; `Model` for a layer that does not fit; `EmptyPart` without training
    /// samples; `Collective` if another rank is lost.
    pub fn new(
        spec: &TrialSpec,
        dataset: Arc<Dataset>,
        mut group: Box<dyn Group>,
    ) -> Result<Self, TrainError> {
        let settings = Settings::of(spec, &dataset)?;
        check(settings.shards, group.world_size()).map_err(|message| TrainError::Spec {
            field: "resources.slots_per_trial",
            message,
        })?;
        // Before anything that depends on the data, so that all ranks end for the same reason.
        same_data(&mut *group, &dataset.digest(), &settings.data)?;
        let samples = dataset.train.len().min(settings.limit_samples);
        if samples == 0 {
            return Err(TrainError::EmptyPart { part: "training" });
        }
        let (network, groups) = building::build(&settings, &dataset, spec.job.resources.device)?;
        let training = &spec.job.training;
        let optimizer = Optimizer::new(&training.optimizer, network.gradient_len());
        let average = training.average.as_ref();
        let average = average
            .map(|spec| Average::new(spec, &network))
            .transpose()?;
        let shape = Shape {
            leaves: settings.shards,
            values: network.gradient_len() + network.statistics_len(),
            scalars: SCALARS,
        };
        let plan = BatchPlan {
            key: settings.key("shuffle"),
            samples,
            batch_size: settings.batch_size,
            shards: settings.shards,
            owned: owned_leaves(settings.shards, group.world_size(), group.rank()),
            epochs: settings.epochs,
            uneven: false,
        };
        let identity = Identity {
            trial_seed: settings.seed,
            virtual_shards: settings.shards,
            batch_size: settings.batch_size,
            samples,
            data: Some(dataset.digest().to_hex().to_string()),
            optimizer: optimizer.name().to_owned(),
        };
        let rates = Rates::new(training, plan.steps_per_epoch());
        settings.check_watched(rates.watched(), &dataset)?;
        let verification = Verification::new(settings.verify_every_steps, group.world_size());
        Ok(Self {
            settings,
            dataset,
            group,
            network,
            optimizer,
            rates,
            groups,
            average,
            sums: TreeSum::new(shape),
            plan,
            identity,
            cursor: Cursor::default(),
            totals: Totals::default(),
            trained_on: state::goes_on(Vec::new(), 0, &cpu_kind()),
            verification,
            pause_after: None,
        })
    }

    /// Goes on where a snapshot was taken, on any number of ranks.
    ///
    /// # Errors
    /// `Snapshot` if it is of another trial or network, `OtherData` if the data has changed since; then
    /// nothing has changed here.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<(), TrainError> {
        self.restore_from(snapshot, Origin::Own).map(drop)
    }

    fn restore_from(
        &mut self,
        snapshot: Snapshot,
        origin: Origin,
    ) -> Result<Vec<String>, TrainError> {
        let place = Place {
            network: &mut self.network,
            optimizer: &mut self.optimizer,
            rates: &mut self.rates,
            average: self.average.as_mut(),
        };
        let data = &self.settings.data;
        let restored = state::restore(snapshot, place, &self.identity, (data, origin))?;
        self.cursor = restored.cursor;
        self.totals = restored.totals;
        self.plan.uneven = restored.uneven;
        self.trained_on = state::goes_on(restored.trained_on, self.cursor.step, &cpu_kind());
        self.verification.agreed(self.cursor.step);
        Ok(restored.begun)
    }

    /// Goes on from a copy of another trial's snapshot, with its own seed. Returns what state of its own that
    /// one lacks, which begins as in a new trial.
    ///
    /// # Errors
    /// As [`Self::restore`], but for the other trial's seed and optimizer.
    pub fn restore_copy(&mut self, mut snapshot: Snapshot) -> Result<Vec<String>, TrainError> {
        state::give_seed(&mut snapshot, self.identity.trial_seed);
        self.restore_from(snapshot, Origin::Copy)
    }

    /// The run ends with a snapshot once so many epochs are complete, if there are more.
    pub fn pause_after(&mut self, epochs: u64) {
        self.pause_after = Some(epochs);
    }

    fn is_at_pause(&self) -> bool {
        let before_the_end = self.cursor.epoch < self.settings.epochs;
        before_the_end
            && self
                .pause_after
                .is_some_and(|after| self.cursor.epoch >= after)
    }

    /// The state as it stands, for whoever wants a copy outside of the observer's schedule.
    pub fn snapshot(&self, metrics: Metrics) -> Result<Snapshot, TrainError> {
        View {
            network: &self.network,
            optimizer: &self.optimizer,
            rates: &self.rates,
            average: self.average.as_ref(),
            identity: &self.identity,
            cursor: self.cursor,
            totals: self.totals,
            uneven: self.plan.uneven,
            trained_on: &self.trained_on,
        }
        .snapshot(metrics)
    }

    /// Trains until every epoch is done, the epoch of [`Trainer::pause_after`] is, or a stop is agreed on.
    ///
    /// # Errors
    /// `NotANumber` at the first step whose loss is not finite; `Collective` if another rank is lost
    /// or the group's cancel switch is thrown.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Finish, TrainError> {
        observer.started(&Started {
            from_step: self.cursor.step,
            steps_total: self
                .settings
                .epochs
                .saturating_mul(self.plan.steps_per_epoch()),
            epochs_total: self.settings.epochs,
            parameters: self.network.parameters_len() as u64,
        });
        let steps = self
            .plan
            .steps(self.cursor.epoch, self.cursor.step_in_epoch);
        let train = self.dataset.train.clone();
        let mut loader = Loader::start(train, steps, self.settings.prefetch);
        while self.cursor.epoch < self.settings.epochs {
            if self.is_at_pause() {
                return Ok(Finish::Paused);
            }
            let span = tracing::info_span!("epoch", epoch = self.cursor.epoch);
            let _entered = span.enter();
            if self.run_epoch(&mut loader, observer)?.is_some() {
                return Ok(Finish::Stopped);
            }
        }
        Ok(Finish::Completed)
    }

    /// Metrics of a part with the present parameters, the same on every rank; every rank must call it.
    /// `None` if one of them was asked to stop, in whatever way: there is nothing to save.
    pub fn evaluate(
        &mut self,
        part: PartName,
        observer: &dyn Observer,
    ) -> Result<Option<Metrics>, TrainError> {
        let stop = || observer.stop_requested().map(|_| StopMode::Now);
        Ok(match self.judge(part, &stop)? {
            Judged::Whole(totals, _) => Some(totals.metrics(part.prefix(), &self.settings.metrics)),
            Judged::Abandoned => None,
        })
    }

    /// The rest of the epoch under way; `Some` if the ranks agreed to stop.
    fn run_epoch(
        &mut self,
        loader: &mut Loader,
        observer: &mut dyn Observer,
    ) -> Result<Option<StopMode>, TrainError> {
        while self.cursor.step_in_epoch < self.plan.steps_per_epoch() {
            let Some(shards) = loader.next() else {
                unreachable!("the plan has every step of every epoch");
            };
            let stop = self.step(&shards, observer)?;
            if stop == Some(StopMode::Now) {
                return Ok(stop);
            }
            self.after_step(stop, observer)?;
            if stop.is_some() {
                return Ok(stop);
            }
        }
        self.end_epoch(observer)
    }

    /// One global batch. Returns what the ranks agreed on; with `Now` nothing was updated.
    pub(super) fn step(
        &mut self,
        shards: &[Batch],
        observer: &dyn Observer,
    ) -> Result<Option<StopMode>, TrainError> {
        let alone = self.group.world_size() == 1;
        let mut wish = observer.stop_requested();
        self.sums.begin(self.plan.owned.clone());
        for (shard, batch) in self.plan.owned.clone().zip(shards) {
            if alone && observer.stop_requested() == Some(StopMode::Now) {
                return Ok(Some(StopMode::Now));
            }
            // The wish is told once, by the rank's first shard.
            self.add_shard(shard, batch, wish.take())?;
        }
        if self.verifies_step() {
            self.compute_next_ranks_shard()?;
        }
        self.group.tree_sum(&mut self.sums)?;
        self.update()
    }

    /// Forward and backward of one virtual shard, added to the sums.
    fn add_shard(
        &mut self,
        shard: usize,
        batch: &Batch,
        wish: Option<StopMode>,
    ) -> Result<(), TrainError> {
        let mask_key = self.mask_key(shard);
        let network = &self.network;
        let first = self.verifies_step() && shard == self.plan.owned.start;
        let digest = self.sums.add_leaf(|values, scalars| {
            let outcome = compute(network, batch, mask_key, values)?;
            let (totals, flags) = scalars.split_at_mut(Totals::LEN);
            totals.copy_from_slice(&outcome.to_array());
            flags[0] = f64::from(u8::from(wish == Some(StopMode::Checkpoint)));
            flags[1] = f64::from(u8::from(wish == Some(StopMode::Now)));
            Ok::<_, TrainError>(first.then(|| digest_of(values, outcome)))
        })?;
        if let Some(digest) = digest {
            self.verification.computed(digest);
        }
        Ok(())
    }

    /// Does once more what the next rank does first in this step.
    fn compute_next_ranks_shard(&mut self) -> Result<(), TrainError> {
        let world_size = self.group.world_size();
        let next = (self.group.rank() + 1) % world_size;
        let shard = owned_leaves(self.settings.shards, world_size, next).start;
        let at = self.cursor;
        let positions = self.plan.positions(at.epoch, at.step_in_epoch, shard);
        let batch = self.dataset.train.gather(&positions);
        let mut values = vec![0.0; self.sums.shape().values];
        let totals = compute(&self.network, &batch, self.mask_key(shard), &mut values)?;
        self.verification.computed_again(digest_of(&values, totals));
        Ok(())
    }

    /// Whether shards are compared in the step under way.
    fn verifies_step(&self) -> bool {
        self.verification.is_due(self.cursor.step + 1)
    }

    fn compare_ranks(&mut self) -> Result<(), TrainError> {
        let step = self.cursor.step;
        let average = self.average.as_ref();
        let state = state_digest(&self.network, &self.optimizer, average, self.totals, step)?;
        self.verification.compare(self.group.as_mut(), step, state)
    }

    fn mask_key(&self, shard: usize) -> Key {
        self.settings
            .key("dropout")
            .with(self.cursor.step)
            .with(shard as u64)
    }

    /// Takes the step with the completed sums, the same on every rank.
    fn update(&mut self) -> Result<Option<StopMode>, TrainError> {
        let step = self.cursor.step + 1;
        let Some((values, scalars)) = self.sums.root_mut() else {
            unreachable!("a group leaves the root");
        };
        let (totals, stop) = read_scalars(scalars);
        if !totals.is_finite() {
            return Err(TrainError::NotANumber { step });
        }
        if stop == Some(StopMode::Now) {
            return Ok(stop);
        }
        let (gradients, statistics) = values.split_at_mut(self.network.gradient_len());
        self.network.add_penalties(totals.samples, gradients)?;
        let gradient = match &self.settings.clipping {
            None => Gradient::mean(totals.samples),
            Some(clipping) => Gradient::clipped(totals.samples, clipping, gradients),
        };
        let (rates, groups) = (&self.rates, &self.groups);
        let at = self.cursor.step;
        let learning_rates = groups.rates(rates.base(), |rate| rates.of(rate, at));
        let mut update = self.optimizer.begin(&learning_rates, gradient);
        let average = &mut self.average;
        let mut numbers = 0..;
        self.network.update_parameters(|offset, parameters| {
            let own = offset..offset + parameters.len();
            let rate = groups.of(numbers.next().unwrap_or(0));
            update.apply(rate, offset, parameters, &gradients[own]);
            if let Some(average) = average {
                average.update(step, offset, parameters);
            }
        })?;
        self.network.apply_statistics(statistics, totals.samples);
        self.totals.add(totals);
        self.cursor.step = step;
        self.cursor.step_in_epoch += 1;
        Ok(stop)
    }

    /// Reports and saves what is due between two steps.
    fn after_step(
        &mut self,
        stop: Option<StopMode>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if self.verification.is_due(self.cursor.step) {
            self.compare_ranks()?;
        }
        let every = self.settings.report_every_steps;
        let within = self.cursor.step_in_epoch < self.plan.steps_per_epoch();
        if within && every > 0 && self.cursor.step.is_multiple_of(every) {
            observer.progress(&Progress {
                step: self.cursor.step,
                epoch: self.cursor.epoch,
                metrics: self.metrics_so_far(),
                end_of_epoch: false,
            });
        }
        if stop == Some(StopMode::Checkpoint) {
            self.save(Metrics::new(), SnapshotReason::Stop, observer)?;
        } else if within && self.step_is_due() {
            self.save(Metrics::new(), SnapshotReason::Step, observer)?;
        }
        Ok(())
    }

    /// Validation, the epoch's report and its snapshot; `Some` if the ranks agreed to stop meanwhile.
    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<Option<StopMode>, TrainError> {
        let mut metrics = self.metrics_so_far();
        let mut stop = None;
        if self.samples(PartName::Validation) > 0 {
            let Judged::Whole(totals, wish) =
                self.judge(PartName::Validation, &|| observer.stop_requested())?
            else {
                return Ok(Some(StopMode::Now));
            };
            metrics.extend(totals.metrics(PartName::Validation.prefix(), &self.settings.metrics));
            stop = wish;
        }
        self.rates.epoch_ended(&metrics);
        self.begin_epoch();
        observer.progress(&Progress {
            step: self.cursor.step,
            epoch: self.cursor.epoch,
            metrics: metrics.clone(),
            end_of_epoch: true,
        });
        let last = self.cursor.epoch == self.settings.epochs;
        let reason = if self.epoch_is_due() {
            Some(SnapshotReason::Epoch)
        } else if last {
            Some(SnapshotReason::End)
        } else if stop == Some(StopMode::Checkpoint) || self.is_at_pause() {
            Some(SnapshotReason::Stop)
        } else {
            // Left to this place by `after_step`, for the epoch's metrics.
            self.step_is_due().then_some(SnapshotReason::Step)
        };
        if let Some(reason) = reason {
            self.save(metrics, reason, observer)?;
        }
        // Nothing is left to stop after the last epoch, nor where the run pauses anyway.
        Ok(stop.filter(|_| !last && !self.is_at_pause()))
    }

    /// The epoch under way is complete.
    pub(super) fn begin_epoch(&mut self) {
        self.cursor.epoch += 1;
        self.cursor.step_in_epoch = 0;
        self.totals = Totals::default();
    }

    /// Whether the epochs that are complete call for a checkpoint.
    fn epoch_is_due(&self) -> bool {
        let every = self.settings.save_every_epochs;
        every > 0 && self.cursor.epoch.is_multiple_of(every)
    }

    /// Whether the steps that were taken call for a checkpoint.
    fn step_is_due(&self) -> bool {
        let every = self.settings.save_every_steps;
        every.is_some_and(|every| self.cursor.step.is_multiple_of(every))
    }

    /// Hands over a snapshot, on rank 0; every rank checks that there is something worth saving. What is
    /// saved all ranks hold: an attempt that goes on from it leaves behind whatever one of them got wrong.
    fn save(
        &mut self,
        metrics: Metrics,
        reason: SnapshotReason,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let mut finite = true;
        self.network.update_parameters(|_, parameters| {
            finite &= parameters.iter().all(|value| value.is_finite());
        })?;
        if !finite {
            return Err(TrainError::NotANumber {
                step: self.cursor.step,
            });
        }
        if self.verification.is_owed(self.cursor.step) {
            self.compare_ranks()?;
        }
        let snapshot = (self.group.rank() == 0)
            .then(|| self.snapshot(metrics))
            .transpose()?;
        observer.snapshot(snapshot, reason);
        Ok(())
    }
}
