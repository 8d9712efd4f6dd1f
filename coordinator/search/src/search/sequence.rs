//! Quasi-random sequences: points that fill the unit cube more evenly than independent draws, each a
//! function of (seed, index, axis).

use trainyard_common::rng::Key;

/// Points of one Sobol sequence, and its axes. Beyond either another one goes on, scrambled anew.
const SOBOL_POINTS: u64 = 1 << 16;
const SOBOL_AXES: usize = sobol_burley::NUM_DIMENSIONS as usize;

/// Digits of a Halton point below this change a number in [0, 1) no more.
const SMALLEST: f64 = 1.0 / (1u64 << 54) as f64;

/// Where the points of a search come from.
#[derive(Debug, Clone)]
pub(super) enum Sequence {
    /// Owen-scrambled Sobol points (Burley 2020, "Practical Hash-based Owen Scrambling") by the direction
    /// numbers of Joe and Kuo: any 2^k points that begin at a multiple of 2^k have each axis' 2^k intervals
    /// once.
    Sobol(Key),
    /// Halton points (1960): axis i counts in the i-th prime number, mirrored at the point. Digits are
    /// scrambled linearly (Matousek 1998, "On the L2-discrepancy for anchored boxes"): without it
    /// axes of large primes follow each other.
    Halton { key: Key, primes: Vec<u64> },
}

impl Sequence {
    pub(super) fn sobol(seed: u64) -> Self {
        Self::Sobol(Key::new(seed).named("sobol"))
    }

    pub(super) fn halton(seed: u64, axes: usize) -> Self {
        Self::Halton {
            key: Key::new(seed).named("halton"),
            primes: primes(axes),
        }
    }

    /// The place of a point on an axis, in [0, 1).
    pub(super) fn at(&self, index: u64, axis: usize) -> f64 {
        match self {
            Self::Sobol(key) => {
                let turn = key.with(index / SOBOL_POINTS);
                let seed = turn.bits((axis / SOBOL_AXES) as u64) as u32;
                let point = (index % SOBOL_POINTS) as u32;
                f64::from(sobol_burley::sample(
                    point,
                    (axis % SOBOL_AXES) as u32,
                    seed,
                ))
            }
            Self::Halton { key, primes } => {
                let base = primes.get(axis).copied().unwrap_or(2);
                halton(index, base, key.with(axis as u64))
            }
        }
    }
}

/// Every digit, leading zeros included, is multiplied and shifted modulo the base.
fn halton(mut index: u64, base: u64, key: Key) -> f64 {
    let (factors, shifts) = (key.with(1), key.with(2));
    let (mut place, mut found, mut digit) = (1.0 / base as f64, 0.0, 0);
    while place > SMALLEST {
        let factor = 1 + factors.below(digit, base - 1);
        let scrambled = ((index % base) * factor + shifts.below(digit, base)) % base;
        found += scrambled as f64 * place;
        place /= base as f64;
        index /= base;
        digit += 1;
    }
    f64::min(found, 1.0 - f64::EPSILON / 2.0)
}

/// The first so many prime numbers.
fn primes(count: usize) -> Vec<u64> {
    let mut found: Vec<u64> = Vec::with_capacity(count);
    let mut next = 2;
    while found.len() < count {
        let mut smaller = found.iter().take_while(|prime| *prime * *prime <= next);
        if !smaller.any(|prime| next % prime == 0) {
            found.push(next);
        }
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these points lie in each of so many equal cells of an axis.
    fn counts(
        sequence: &Sequence,
        axis: usize,
        points: std::ops::Range<u64>,
        cells: u64,
    ) -> Vec<u32> {
        let mut counts = vec![0; cells as usize];
        for index in points {
            counts[(sequence.at(index, axis) * cells as f64) as usize] += 1;
        }
        counts
    }

    #[test]
    fn every_axis_of_sobol_is_stratified() {
        for seed in 0..5 {
            let sobol = Sequence::sobol(seed);
            for axis in [0, 1, 7, 100, 255, 256, 900] {
                assert_eq!(counts(&sobol, axis, 0..256, 256), [1; 256], "axis {axis}");
                assert_eq!(counts(&sobol, axis, 64..128, 64), [1; 64], "axis {axis}");
            }
            // The first two axes together, in every shape of 64 cells.
            for rows in [1, 2, 4, 8, 16, 32, 64] {
                let columns = 64 / rows;
                let cell = |index| {
                    let place = |axis, cells: u64| (sobol.at(index, axis) * cells as f64) as u64;
                    (place(0, rows), place(1, columns))
                };
                let cells: std::collections::BTreeSet<_> = (0..64).map(cell).collect();
                assert_eq!(cells.len(), 64, "{rows} rows");
            }
            // Where one sequence ends another begins.
            let (last, first) = (sobol.at(SOBOL_POINTS - 1, 0), sobol.at(SOBOL_POINTS, 0));
            assert!(last != first && first != sobol.at(0, 0));
            assert_eq!(counts(&sobol, 0, 65_536..65_600, 64), [1; 64]);
        }
    }

    #[test]
    fn every_axis_of_halton_is_stratified() {
        assert_eq!(primes(12), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]);
        assert_eq!(primes(1_000).last(), Some(&7_919));
        for seed in 0..5 {
            let halton = Sequence::halton(seed, 1_000);
            for (axis, base) in [(0, 2u64), (1, 3), (2, 5), (5, 13), (999, 7_919)] {
                let mut run = base;
                while run < 1_000 {
                    let found = counts(&halton, axis, run..2 * run, run);
                    assert!(found.iter().all(|count| *count == 1), "axis {axis}, {run}");
                    run *= base;
                }
            }
            for axis in 0..1_000 {
                let point = halton.at(u64::MAX, axis);
                assert!((0.0..1.0).contains(&point), "{point}");
            }
        }
    }

    /// Warnock's formula for the L2 star discrepancy of points, squared.
    fn discrepancy(points: &[Vec<f64>]) -> f64 {
        let (count, axes) = (points.len() as f64, points[0].len() as i32);
        let one = |point: &Vec<f64>| point.iter().map(|x| 1.0 - x * x).product::<f64>();
        let two = |a: &Vec<f64>| {
            let with = |b: &Vec<f64>| {
                let axes = a.iter().zip(b);
                axes.map(|(x, y)| 1.0 - f64::max(*x, *y)).product::<f64>()
            };
            points.iter().map(with).sum::<f64>()
        };
        let ones: f64 = points.iter().map(one).sum();
        let twos: f64 = points.iter().map(two).sum();
        3f64.powi(-axes) - 2f64.powi(1 - axes) / count * ones + twos / (count * count)
    }

    #[test]
    fn points_lie_more_evenly_than_draws() {
        // By hand for one point at a half: 1/3 - 3/4 + 1/2.
        assert!((discrepancy(&[vec![0.5]]) - 1.0 / 12.0).abs() < 1e-15);
        let points = |at: &dyn Fn(u64, usize) -> f64| -> Vec<Vec<f64>> {
            let point = |index| (0..5).map(|axis| at(index, axis)).collect();
            (0..200).map(point).collect()
        };
        let expected = (2f64.powi(-5) - 3f64.powi(-5)) / 200.0;
        let mut drawn = 0.0;
        for seed in 0..10 {
            let key = Key::new(seed);
            drawn += discrepancy(&points(&|index, axis| key.with(index).unit(axis as u64)));
            for sequence in [Sequence::sobol(seed), Sequence::halton(seed, 5)] {
                let even = discrepancy(&points(&|index, axis| sequence.at(index, axis)));
                assert!(even < expected / 3.0, "{sequence:?}: {even}");
            }
        }
        let ratio = drawn / 10.0 / expected;
        assert!((0.7..1.4).contains(&ratio), "{ratio}");
    }

    #[test]
    fn axes_of_large_primes_do_not_follow_each_other() {
        let halton = Sequence::halton(1, 200);
        let point = |axis: usize| (0..100).map(move |index| (index, axis));
        let at = |axis: usize| -> Vec<f64> { point(axis).map(|(i, a)| halton.at(i, a)).collect() };
        let (a, b) = (at(150), at(151));
        let centred = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            x.iter().map(|x| x - mean).collect()
        };
        let (a, b) = (centred(&a), centred(&b));
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let correlation = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        // 1.0 without scrambling.
        assert!(correlation.abs() < 0.5, "{correlation}");
    }

    #[test]
    fn points_are_the_same_on_every_machine() {
        let (sobol, halton) = (Sequence::sobol(7), Sequence::halton(7, 3));
        let first = |sequence: &Sequence| [0, 1, 2].map(|axis| sequence.at(5, axis).to_bits());
        assert_eq!(
            first(&sobol),
            [
                4592518034651873280,
                4606659968240713728,
                4604317095793000448
            ]
        );
        assert_eq!(
            first(&halton),
            [
                4585612660341272432,
                4595597152876261412,
                4596006757527995903
            ]
        );
    }
}
