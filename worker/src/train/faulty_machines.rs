//! Ranks whose memory, arithmetic or network errs, and checkpoints that were not trained as they say.

use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::tests::{
    Recorder, Run, STEPS, TRAIN, Way, assert_same_run, classification, cnn_trial, images, run,
    run_rank,
};
use super::*;
use crate::checkpoint::Snapshot;
use crate::collective::damage::{Flip, mesh_through};
use crate::collective::tests::mesh;
use crate::collective::{CollectiveError, Group, TcpGroup, TreeSum};
use crate::data::Dataset;
use trainyard_common::spec::TrialSpec;

/// A rank on whose machine one bit of a finished sum flips: it takes another step than the others.
struct Faulty {
    group: TcpGroup,
    /// The sum that is disturbed, counted from 1.
    at: u64,
    sums: u64,
}

impl Group for Faulty {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world_size(&self) -> usize {
        self.group.world_size()
    }

    fn address(&self, rank: usize) -> Option<&str> {
        self.group.address(rank)
    }

    fn tree_sum(&mut self, sums: &mut TreeSum) -> Result<(), CollectiveError> {
        self.group.tree_sum(sums)?;
        self.sums += 1;
        if self.sums == self.at {
            let (values, scalars) = sums.root().unwrap();
            let (mut values, scalars) = (values.to_vec(), scalars.to_vec());
            // Not the last bit, which an optimizer may round away again.
            values[5] = f32::from_bits(values[5].to_bits() ^ (1 << 20));
            let leaves = sums.shape().leaves;
            sums.begin(0..leaves);
            for leaf in 0..leaves {
                let disturbed = sums.add_leaf(|own, own_scalars| {
                    own.fill(0.0);
                    if leaf == 0 {
                        own.copy_from_slice(&values);
                        own_scalars.copy_from_slice(&scalars);
                    }
                    Ok::<_, ()>(())
                });
                disturbed.unwrap();
            }
        }
        Ok(())
    }

    fn all_gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.group.all_gather(bytes)
    }
}

fn verified(every: u64) -> TrialSpec {
    let mut spec = cnn_trial();
    spec.job.training.verify_every_steps = every;
    spec
}

/// What each rank, with data of its own, ended with and told.
fn run_ranks(
    spec: &TrialSpec,
    data: &[Arc<Dataset>],
    group: impl Fn(TcpGroup) -> Box<dyn Group> + Sync,
) -> Vec<(TrainError, Recorder)> {
    thread::scope(|scope| {
        let ranks: Vec<_> = mesh(data.len())
            .into_iter()
            .zip(data)
            .map(|(connected, data)| {
                let group = &group;
                scope.spawn(move || {
                    let mut recorder = Recorder::default();
                    let mut trainer =
                        Trainer::new(spec, Arc::clone(data), group(connected)).unwrap();
                    let error = trainer.run(&mut recorder).unwrap_err();
                    (error, recorder)
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn ranks_that_compare_end_in_the_same_bytes() {
    let (spec, data) = (verified(1), classification());
    let alone = run(&spec, &data, &Way::ranks(1));
    for world_size in 2..=4 {
        assert_same_run(&alone, &run(&spec, &data, &Way::ranks(world_size)));
    }
}

/// The so-many-th sum of one rank is disturbed.
fn disturbed(rank: usize, at: u64) -> impl Fn(TcpGroup) -> Box<dyn Group> + Sync {
    move |group| {
        if group.rank() == rank {
            Box::new(Faulty { group, at, sums: 0 })
        } else {
            Box::new(group)
        }
    }
}

#[test]
fn a_rank_that_holds_other_parameters_is_named() {
    let data = classification();
    // Step 3 goes wrong; it is seen in the next step in which they compare.
    let ends = run_ranks(&verified(4), &vec![Arc::clone(&data); 3], disturbed(1, 3));
    for (error, recorder) in &ends {
        let TrainError::RanksDiffer { step, agreed, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((*step, *agreed), (4, 0));
        assert!(error.can_retry());
        let text = error.to_string();
        let expected =
            "2 of 3 ranks hold the same parameters and optimizer state, but not rank 1 (127.0.0.1:";
        assert!(text.contains(expected), "{text}");
        assert!(recorder.snapshots.is_empty());
    }
    // Of two nobody knows which one.
    let ends = run_ranks(&verified(4), &vec![Arc::clone(&data); 2], disturbed(1, 3));
    for (error, _) in &ends {
        let text = error.to_string();
        assert!(text.contains("rank 0 (127.0.0.1:"), "{text}");
        assert!(text.contains("and rank 1 (127.0.0.1:"), "{text}");
        assert!(text.contains("hold different parameters"), "{text}");
    }
}

/// However seldom ranks compare otherwise: an attempt that goes on from a checkpoint must not take over what
/// went wrong.
#[test]
fn no_checkpoint_is_made_of_what_ranks_do_not_agree_on() {
    let data = vec![classification(); 2];
    for rank in [0, 1] {
        let ends = run_ranks(&verified(1_000_000), &data, disturbed(rank, STEPS + 2));
        for (error, recorder) in &ends {
            let TrainError::RanksDiffer { step, agreed, .. } = error else {
                panic!("{error}");
            };
            assert_eq!((*step, *agreed), (2 * STEPS, STEPS));
            assert_eq!(recorder.snapshots.len(), 1, "of the first epoch");
        }
    }
}

/// Its gradients go into the sum that all share, so that all ranks hold the same all the time. The data of
/// the rank changes after they were compared: its machine reads other numbers than it has loaded.
#[test]
fn a_rank_that_computes_other_gradients_is_named() {
    let good = classification();
    let mut bad = Dataset::clone(&good);
    bad.train = images(7, TRAIN);
    let bad = Arc::new(bad);
    for wrong in 0..3 {
        let mut data = vec![Arc::clone(&good); 3];
        data[wrong] = Arc::clone(&bad);
        for (error, _) in run_ranks(&verified(4), &data, |group| Box::new(group)) {
            assert!(
                matches!(&error, TrainError::RanksDiffer { step: 4, .. }),
                "{error}"
            );
            let text = error.to_string();
            let expected = format!("rank {wrong} (127.0.0.1:");
            assert!(text.contains(&expected), "{text}");
            assert!(
                text.contains("other gradients than two other ranks"),
                "{text}"
            );
        }
    }
    let data = [Arc::clone(&good), bad];
    for (error, _) in run_ranks(&verified(4), &data, |group| Box::new(group)) {
        let text = error.to_string();
        assert!(text.contains("computed different gradients"), "{text}");
    }
}

#[test]
fn a_bit_that_flips_on_the_way_ends_the_attempt_and_never_the_trial() {
    let (spec, data) = (cnn_trial(), classification());
    // In the second step's gradients, and in the first's.
    for (to, byte) in [(0, 9_000), (1, 2_000), (1, 9_000)] {
        let ends: Vec<Result<Run, TrainError>> = thread::scope(|scope| {
            let ranks: Vec<_> = mesh_through(Flip { to, byte, bit: 3 })
                .into_iter()
                .map(|group| {
                    scope.spawn(|| run_rank(&spec, &data, &Way::ranks(2), Box::new(group)))
                })
                .collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        for (rank, end) in ends.into_iter().enumerate() {
            let Some(TrainError::Collective(error)) = end.err() else {
                panic!("rank {rank} got to the end");
            };
            assert!(error.can_retry() && error.is_loss(), "{error}");
            let damaged = matches!(error, CollectiveError::Damaged { .. });
            assert_eq!(damaged, rank == to, "{error}");
        }
    }
}

/// The snapshots of a run that makes one in each step but the last of an epoch, and at its end.
fn stored(spec: &TrialSpec) -> Vec<Snapshot> {
    let run = run(spec, &classification(), &Way::ranks(2));
    let snapshots = run.recorder.snapshots.into_iter();
    snapshots.filter_map(|(_, snapshot)| snapshot).collect()
}

fn each_step() -> TrialSpec {
    let mut spec = cnn_trial();
    spec.job.checkpoint_storage.every_steps = Some(1);
    spec
}

fn again(spec: &TrialSpec, from: Option<&Snapshot>, to: &Snapshot) -> Replayed {
    let stretch = Stretch {
        weights: None,
        from: from.cloned(),
        to,
    };
    replay(spec, classification(), stretch).unwrap()
}

#[test]
fn a_stretch_between_two_checkpoints_comes_out_the_same() {
    let spec = each_step();
    let stored = stored(&spec);
    assert_eq!(stored.len() as u64, 3 * STEPS);
    let pairs = [(0, 1), (2, 7), (4, 5), (5, 6), (3, 17), (5, 11)];
    for (from, to) in pairs {
        let replayed = again(&spec, Some(&stored[from]), &stored[to]);
        assert_eq!(replayed.difference, None, "{from} to {to}");
        assert_eq!(replayed.steps, (to - from) as u64);
        assert!(replayed.values > 100);
    }
    assert_eq!(again(&spec, None, &stored[7]).difference, None);
    let processors = trained_on(&stored[7]);
    assert_eq!(processors.len(), 1);
    assert_eq!(processors[0].processor, crate::collective::cpu_kind());
}

/// A stop at the last step of an epoch leaves its judgement outstanding.
#[test]
fn a_checkpoint_before_the_judgement_of_its_epoch_can_be_replayed() {
    let (spec, data) = (cnn_trial(), classification());
    let way = Way {
        stop: Some((0, STEPS - 1, StopMode::Checkpoint)),
        ..Way::ranks(1)
    };
    let stopped = run(&spec, &data, &way);
    let (_, snapshot) = stopped.recorder.snapshots.last().unwrap();
    let snapshot = snapshot.as_ref().unwrap();
    assert_eq!((snapshot.step, snapshot.epoch), (STEPS, 0));
    assert_eq!(again(&spec, None, snapshot).difference, None);
    let whole = run(&spec, &data, &Way::ranks(1));
    let (_, next) = whole.recorder.snapshots[1].clone();
    assert_eq!(
        again(&spec, Some(snapshot), &next.unwrap()).difference,
        None
    );
}

#[test]
fn the_first_value_that_differs_is_told() {
    let spec = each_step();
    let mut stored = stored(&spec);
    let tensor = &mut stored[4].tensors[2];
    let place = format!("{}[1]", tensor.name);
    let good = tensor.data[1];
    tensor.data[1] = f32::from_bits(good.to_bits() ^ 1);
    let found = again(&spec, Some(&stored[1]), &stored[4])
        .difference
        .unwrap();
    assert_eq!((found.place, found.values), (place, 1));
    assert!(
        found
            .replayed
            .contains(&format!("({:08x})", good.to_bits()))
    );
    assert_ne!(found.stored, found.replayed);
    // What begins wrongly does not come to what was trained.
    assert!(
        again(&spec, Some(&stored[4]), &stored[6])
            .difference
            .unwrap()
            .values
            > 1
    );
    let mut counted = stored[3].clone();
    counted.state["optimizer_steps"] = json!(7);
    let found = again(&spec, Some(&stored[1]), &counted).difference.unwrap();
    assert_eq!(found.place, "optimizer_steps");
    let mut fewer = stored[3].clone();
    let name = fewer.tensors.pop().unwrap().name;
    let found = again(&spec, Some(&stored[1]), &fewer).difference.unwrap();
    assert_eq!((found.place, found.stored.as_str()), (name, "missing"));
    let mut later = stored[3].clone();
    later.step = 1_000;
    let stretch = Stretch {
        weights: None,
        from: None,
        to: &later,
    };
    let error = replay(&spec, classification(), stretch).unwrap_err();
    assert!(
        error.to_string().contains("the spec has no more"),
        "{error}"
    );
}
