//! A counter-based random source: every draw is a function of a key and a position.
//!
//! Nothing is stored between draws, so the same numbers come out after a restart, in any order of
//! asking and on any number of machines. The mixer is SplitMix64's finalizer (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", OOPSLA 2014).

/// Weyl increment of SplitMix64: 2^64 divided by the golden ratio, made odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes 64 bits; a bijection.
#[inline]
pub const fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The top 53 bits as a number in [0, 1).
#[inline]
pub fn unit_f64(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A key from which independent keys and draws are derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The key of a part, named by a number.
    #[inline]
    #[must_use]
    pub const fn with(self, part: u64) -> Self {
        Self(mix(self.0 ^ mix(part)))
    }

    /// The key of a part, named by a word (FNV-1a over its bytes, then mixed).
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        self.with(hash)
    }

    /// 64 random bits at a position.
    #[inline]
    pub const fn bits(self, position: u64) -> u64 {
        mix(self.0.wrapping_add(position.wrapping_mul(GOLDEN)))
    }

    /// A number in [0, 1) at a position.
    #[inline]
    pub fn unit(self, position: u64) -> f64 {
        unit_f64(self.bits(position))
    }

    /// A standard normal number at a position (Box and Muller), the same on every machine.
    pub fn normal(self, position: u64) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.with(1).unit(position)));
        radius * libm::cos(2.0 * std::f64::consts::PI * self.with(2).unit(position))
    }

    /// A whole number in [0, bound), without bias to more than 2^-64 (Lemire's multiplication).
    pub fn below(self, position: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(position)) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // First outputs of Vigna's splitmix64.c from state 0 and 1.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(1), 0x910A_2DEC_8902_5CC1);
    }

    #[test]
    fn draws_are_uniform_and_uncorrelated() {
        let key = Key::new(7);
        let n = 100_000u64;
        let mean = (0..n).map(|i| key.unit(i)).sum::<f64>() / n as f64;
        let serial = (0..n)
            .map(|i| (key.unit(i) - 0.5) * (key.unit(i + 1) - 0.5))
            .sum::<f64>();
        // Standard deviations: 0.289/sqrt(n) and (1/12)/sqrt(n); five of them.
        assert!(
            (mean - 0.5).abs() < 5.0 * 0.289 / (n as f64).sqrt(),
            "{mean}"
        );
        assert!((serial / n as f64).abs() < 5.0 / 12.0 / (n as f64).sqrt());
    }

    #[test]
    fn normal_has_unit_variance() {
        let key = Key::new(3).named("normal");
        let n = 100_000u64;
        let (sum, squares) = (0..n).fold((0.0, 0.0), |(sum, squares), i| {
            let x = key.normal(i);
            (sum + x, squares + x * x)
        });
        assert!((sum / n as f64).abs() < 0.016);
        assert!((squares / n as f64 - 1.0).abs() < 0.025);
    }

    #[test]
    fn parts_and_positions_differ() {
        let key = Key::new(1);
        assert_ne!(key.with(1).bits(0), key.with(2).bits(0));
        assert_ne!(key.named("a").bits(0), key.named("b").bits(0));
        assert_ne!(key.bits(0), key.bits(1));
    }

    #[test]
    fn below_stays_below() {
        let key = Key::new(9);
        let mut seen = [0u32; 5];
        (0..10_000).for_each(|i| seen[key.below(i, 5) as usize] += 1);
        assert!(
            seen.iter().all(|&count| (1_800..2_200).contains(&count)),
            "{seen:?}"
        );
    }
}
