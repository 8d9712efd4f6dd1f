//! What ranks exchange, and what checkpoints cost: gigabytes a second of an all-reduce between two ranks over
//! loopback, and of saving a checkpoint whose parts are new, or are stored already.
//!
//! `cargo run --release -p trainyard-worker --example exchange_speed`. Processor seconds are told as well (Linux),
//! as other programs disturb the clock.
#![allow(clippy::print_stdout)]

use std::net::TcpListener;
use std::time::Instant;

use anyhow::{Context, Result};
use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};
use trainyard_worker::checkpoint::{CheckpointStore, NamedTensor, Owner, Snapshot};
use trainyard_worker::collective::partition::{Shape, owned_leaves};
use trainyard_worker::collective::{
    Cancel, Group as _, Membership, Rendezvous, TcpGroup, Timeouts, TreeSum, cpu_kind,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Numbers of 32 bits in a gradient: of a small, a middling and a large network.
const VALUES: [usize; 3] = [100_000, 1_500_000, 25_000_000];
/// A measurement takes so long at least; the median of so many is printed.
const SECONDS: f64 = 1.0;
const ROUNDS: usize = 5;
/// Ticks a second in /proc: 100 on every Linux that is built without a change to it.
const TICKS: f64 = 100.0;

/// Processor seconds of this process so far; 0 where there is no /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses the state is field 3; user and system ticks are 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

fn mesh() -> Result<Vec<TcpGroup>> {
    let point =
        || -> Result<Rendezvous> { Ok(Rendezvous::start(TcpListener::bind("127.0.0.1:0")?)?) };
    let points = [point()?, point()?];
    let addresses = points
        .each_ref()
        .map(|point| point.local_addr().to_string());
    std::thread::scope(|scope| {
        let joins: Vec<_> = (0..2)
            .map(|rank| {
                let membership = Membership {
                    job: JobId("speed".to_owned()),
                    trial: TrialId(0),
                    attempt: AttemptId(0),
                    generation: Generation(1),
                    rank,
                    addresses: addresses.to_vec(),
                    token: "speed".to_owned(),
                    cpu_kind: cpu_kind(),
                };
                let point = &points[rank];
                scope.spawn(move || point.join(&membership, Timeouts::default(), &Cancel::new()))
            })
            .collect();
        let groups = joins.into_iter().map(|join| join.join().expect("no panic"));
        groups.map(|group| Ok(group?)).collect()
    })
}

/// Seconds, and processor seconds of both ranks, of one sum of so many values.
fn sum_seconds(values: usize, sums: usize) -> Result<(f64, f64)> {
    let shape = Shape {
        leaves: 4,
        values,
        scalars: 7,
    };
    let groups = mesh()?;
    let work = |mut group: TcpGroup| -> Result<()> {
        let mut tree = TreeSum::new(shape);
        for _ in 0..sums {
            let owned = owned_leaves(shape.leaves, group.world_size(), group.rank());
            tree.begin(owned.clone());
            for _ in owned {
                tree.add_leaf(|_, _| Ok::<_, anyhow::Error>(()))?;
            }
            group.tree_sum(&mut tree)?;
        }
        Ok(())
    };
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    std::thread::scope(|scope| {
        let ranks: Vec<_> = groups
            .into_iter()
            .map(|group| scope.spawn(move || work(group)))
            .collect();
        ranks
            .into_iter()
            .try_for_each(|rank| rank.join().expect("no panic"))
    })?;
    let sums = sums as f64;
    Ok((
        clock.elapsed().as_secs_f64() / sums,
        (cpu_seconds() - cpu) / sums,
    ))
}

fn median(mut measured: Vec<(f64, f64)>) -> (f64, f64) {
    measured.sort_by(|one, other| one.0.total_cmp(&other.0));
    measured[measured.len() / 2]
}

fn all_reduce() -> Result<()> {
    for values in VALUES {
        let once = sum_seconds(values, 3)?.0;
        let sums = (SECONDS / once).ceil() as usize;
        let measured: Result<Vec<_>> = (0..ROUNDS).map(|_| sum_seconds(values, sums)).collect();
        let (clock, cpu) = median(measured?);
        println!(
            "all-reduce of {values:>8} values over 2 ranks: {:8.3} ms, {:8.3} ms of processors",
            clock * 1e3,
            cpu * 1e3
        );
    }
    Ok(())
}

fn snapshot(step: u64, values: usize, fill: f32) -> Snapshot {
    Snapshot {
        tensors: vec![NamedTensor {
            name: "model/0.dense.kernel".to_owned(),
            shape: vec![values],
            data: (0..values).map(|at| fill + at as f32).collect(),
        }],
        epoch: 0,
        step,
        state: serde_json::Value::Null,
        metrics: Vec::new(),
    }
}

async fn save() -> Result<()> {
    let values = VALUES[2];
    let gigabytes = (values * size_of::<f32>()) as f64 / 1e9;
    for (name, shared) in [("new parts", false), ("the same parts again", true)] {
        let mut measured = Vec::new();
        for round in 0..ROUNDS as u64 {
            let folder = tempfile::tempdir()?;
            let path = folder.path().to_str().context("a path of UTF-8")?;
            let store = CheckpointStore::open(path)?;
            let owner = Owner {
                job: JobId("speed".to_owned()),
                trial: TrialId(0),
                attempt: AttemptId(0),
                generation: Generation(1),
            };
            if shared {
                store.save(&owner, snapshot(round, values, 0.0)).await?;
            }
            let saved = snapshot(round + 100, values, 0.0);
            let (clock, cpu) = (Instant::now(), cpu_seconds());
            store.save(&owner, saved).await?;
            measured.push((clock.elapsed().as_secs_f64(), cpu_seconds() - cpu));
        }
        let (clock, cpu) = median(measured);
        println!(
            "saving 100 MB, {name}: {:.2} GB/s, {:.0} ms of processors",
            gigabytes / clock,
            cpu * 1e3
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    all_reduce()?;
    tokio::runtime::Runtime::new()?.block_on(save())
}
