//! A keyed permutation of [0, n) that is computed, never stored. PURE.
//!
//! A Feistel network (Luby and Rackoff 1988) over the smallest power of two that holds n, with cycle
//! walking (Black and Rogaway 2002): a value outside of [0, n) is sent through again until it is
//! inside. Less than half of the domain is outside, so that takes fewer than two passes on average.

use trainyard_common::rng::Key;

/// Four are enough to look random to a distinguisher with few queries; more are cheap, and even out
/// the small domains of small datasets.
const ROUNDS: usize = 8;

/// A bijection of [0, len), fixed by a key.
#[derive(Debug, Clone)]
pub struct Permutation {
    len: u64,
    /// Widths of the halves. They differ by one bit when the domain's width is odd.
    low_bits: u32,
    high_bits: u32,
    keys: [Key; ROUNDS],
}

impl Permutation {
    /// `len` may be 0: then there is nothing to ask for.
    pub fn new(key: Key, len: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let high_bits = bits / 2;
        Self {
            len,
            low_bits: bits - high_bits,
            high_bits,
            keys: std::array::from_fn(|round| key.with(round as u64)),
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where position `i` goes.
    ///
    /// # Panics
    /// If `i` is not below `len`.
    pub fn at(&self, i: u64) -> u64 {
        assert!(
            i < self.len,
            "position {i} of a permutation of {}",
            self.len
        );
        let mut value = self.pass(i);
        while value >= self.len {
            value = self.pass(value);
        }
        value
    }

    fn pass(&self, value: u64) -> u64 {
        let low_mask = mask(self.low_bits);
        let high_mask = mask(self.high_bits);
        let mut low = value & low_mask;
        let mut high = value.checked_shr(self.low_bits).unwrap_or(0);
        for (round, key) in self.keys.iter().enumerate() {
            if round % 2 == 0 {
                low ^= key.bits(high) & low_mask;
            } else {
                high ^= key.bits(low) & high_mask;
            }
        }
        high.checked_shl(self.low_bits).unwrap_or(0) | low
    }
}

fn mask(bits: u32) -> u64 {
    1u64.checked_shl(bits).map_or(u64::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_bijection(key: Key, len: u64) -> bool {
        let permutation = Permutation::new(key, len);
        let mut seen = vec![false; len as usize];
        (0..len).all(|i| {
            let to = permutation.at(i);
            to < len && !std::mem::replace(&mut seen[to as usize], true)
        })
    }

    #[test]
    fn every_small_length_is_a_bijection() {
        for len in 0..=600 {
            for seed in 0..8 {
                assert!(is_bijection(Key::new(seed), len), "{len} {seed}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_length_is_a_bijection(len in 1u64..70_000, seed: u64) {
            prop_assert!(is_bijection(Key::new(seed), len));
        }

        #[test]
        fn stays_within_any_length(len in 1u64.., at: u64, seed: u64) {
            let permutation = Permutation::new(Key::new(seed), len);
            prop_assert!(permutation.at(at % len) < len);
        }
    }

    /// Of a random permutation of n: |p(i) - i| has mean (n - 1/n) / 3, there is one fixed point on
    /// average, neighbours stay neighbours about twice, and half of all pairs are inverted.
    #[test]
    fn looks_random() {
        for (len, seed) in [(60_000u64, 1), (1_437, 2), (4_096, 3), (50_001, 4)] {
            let permutation = Permutation::new(Key::new(seed).named("epoch"), len);
            let to: Vec<u64> = (0..len).map(|i| permutation.at(i)).collect();
            let n = len as f64;
            let displacement = (0..len).map(|i| i.abs_diff(to[i as usize])).sum::<u64>() as f64 / n;
            // Standard deviation of one displacement: n / sqrt(18). Five of the mean's.
            let tolerance = 5.0 * n / 18f64.sqrt() / n.sqrt();
            assert!((displacement - n / 3.0).abs() < tolerance, "{displacement}");
            let fixed = (0..len).filter(|&i| to[i as usize] == i).count();
            assert!(fixed < 8, "{fixed}");
            let neighbours = to.windows(2).filter(|w| w[0].abs_diff(w[1]) == 1).count();
            assert!(neighbours < 13, "{neighbours}");
            let descents = to.windows(2).filter(|w| w[0] > w[1]).count() as f64;
            // Descents of a random permutation: mean (n-1)/2, variance (n+1)/12.
            assert!(
                (descents - n / 2.0).abs() < 5.0 * (n / 12.0).sqrt(),
                "{descents}"
            );
            // Uniform within any stretch: the first tenth goes equally often to each tenth.
            let mut tenths = [0f64; 10];
            let stretch = len / 10;
            (0..stretch).for_each(|i| tenths[(to[i as usize] * 10 / len) as usize] += 1.0);
            let expected = stretch as f64 / 10.0;
            let chi: f64 = tenths
                .iter()
                .map(|t| (t - expected).powi(2) / expected)
                .sum();
            assert!(chi < 33.7, "chi-squared {chi} (9 degrees; p = 0.0001)");
        }
    }

    #[test]
    fn each_key_gives_another_order() {
        let key = Key::new(5).named("shuffle");
        let order = |epoch: u64| -> Vec<u64> {
            let permutation = Permutation::new(key.with(epoch), 1_000);
            (0..1_000).map(|i| permutation.at(i)).collect()
        };
        for epoch in 1..20 {
            let same = order(0)
                .iter()
                .zip(order(epoch))
                .filter(|(a, b)| **a == *b)
                .count();
            assert!(same < 9, "epoch {epoch}: {same} of 1000 at the same place");
        }
        assert_eq!(order(3), order(3));
    }

    /// All 6 orders of 3 come up about equally often over keys.
    #[test]
    fn small_orders_are_even() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6_000 {
            let permutation = Permutation::new(Key::new(seed), 3);
            let order = [0, 1, 2].map(|i| permutation.at(i));
            *counts.entry(order).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|&c| (700..1_300).contains(&c)),
            "{counts:?}"
        );
    }
}
