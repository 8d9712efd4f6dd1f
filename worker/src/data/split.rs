//! Divides samples into training, validation and test parts. PURE.

use trainyard_common::rng::Key;
use trainyard_common::spec::SplitSpec;

use super::{DataError, Permutation};

/// Sample numbers of each part, in the part's order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Division {
    pub(crate) train: Vec<u32>,
    pub(crate) validation: Vec<u32>,
    pub(crate) test: Vec<u32>,
}

/// `group_of` gives the group of each sample whose shares are kept (`split.stratify`); a function that
/// is 0 everywhere keeps none. Samples are ordered by the key (or as stored), and within each group
/// the last ones are for testing, those before them for validation, the rest for training.
pub(crate) fn divide(
    spec: &SplitSpec,
    len: usize,
    group_of: impl Fn(usize) -> u32,
    key: Key,
) -> Result<Division, DataError> {
    let validation = part_size("split.validation", spec.validation, len)?;
    let test = part_size("split.test", spec.test, len)?;
    if validation + test >= len {
        return Err(DataError::Split {
            field: "split",
            reason: format!(
                "validation {} and test {} of {len} samples leave none for training",
                spec.validation, spec.test
            ),
        });
    }
    let mut sizes = Vec::new();
    for index in 0..len {
        let group = group_of(index) as usize;
        if group >= sizes.len() {
            sizes.resize(group + 1, 0);
        }
        sizes[group] += 1;
    }
    let mut to_validation = apportion(validation, &sizes, &vec![0; sizes.len()]);
    let mut to_test = apportion(test, &sizes, &to_validation);

    let order = Permutation::new(key, len as u64);
    let mut division = Division {
        train: Vec::with_capacity(len - validation - test),
        validation: Vec::with_capacity(validation),
        test: Vec::with_capacity(test),
    };
    for at in (0..len as u64).rev() {
        let index = if spec.shuffle { order.at(at) } else { at };
        let group = group_of(index as usize) as usize;
        let part = if take(&mut to_test[group]) {
            &mut division.test
        } else if take(&mut to_validation[group]) {
            &mut division.validation
        } else {
            &mut division.train
        };
        part.push(index as u32);
    }
    division.train.reverse();
    division.validation.reverse();
    division.test.reverse();
    Ok(division)
}

fn take(left: &mut usize) -> bool {
    let some = *left > 0;
    *left -= usize::from(some);
    some
}

fn part_size(field: &'static str, fraction: f64, len: usize) -> Result<usize, DataError> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::Split {
            field,
            reason: format!("{fraction} is not in [0, 1)"),
        });
    }
    let size = (len as f64 * fraction).round() as usize;
    if size == 0 && fraction > 0.0 {
        return Err(DataError::Split {
            field,
            reason: format!(
                "{fraction} of {len} samples is less than one; give 0 or a larger share"
            ),
        });
    }
    Ok(size)
}

/// Shares `total` over groups in proportion to their sizes, by largest remainders (Hamilton); of equal
/// remainders the lower group comes first. A group keeps one sample for training while others can
/// give more. `taken`: what of each group is gone already.
fn apportion(total: usize, sizes: &[usize], taken: &[usize]) -> Vec<usize> {
    let all: u128 = sizes.iter().map(|&size| size as u128).sum();
    let quota = |size: usize| size as u128 * total as u128;
    let mut shares: Vec<usize> = sizes
        .iter()
        .zip(taken)
        .map(|(&size, &taken)| {
            let share = (quota(size) / all.max(1)) as usize;
            share.min((size - taken).saturating_sub(1))
        })
        .collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|&group| std::cmp::Reverse(quota(sizes[group]) % all.max(1)));
    let mut left = total - shares.iter().sum::<usize>();
    for reserve in [1, 0] {
        let mut given = true;
        while left > 0 && given {
            given = false;
            for &group in &by_remainder {
                let used = taken[group] + shares[group] + reserve;
                if left > 0 && used < sizes[group] {
                    shares[group] += 1;
                    left -= 1;
                    given = true;
                }
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(validation: f64, test: f64, stratify: bool, shuffle: bool) -> SplitSpec {
        SplitSpec {
            validation,
            test,
            stratify,
            shuffle,
        }
    }

    #[test]
    fn from_the_end_in_stored_order() {
        let division = divide(&spec(0.2, 0.1, false, false), 10, |_| 0, Key::new(1)).unwrap();
        assert_eq!(division.train, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(division.validation, [7, 8]);
        assert_eq!(division.test, [9]);
    }

    #[test]
    fn sizes_round_to_the_nearest() {
        for (len, validation, test, expected) in [
            (60_000, 0.1, 0.0, (54_000, 6_000, 0)),
            (1_797, 0.1, 0.2, (1_258, 180, 359)),
            (3, 0.3, 0.3, (1, 1, 1)),
        ] {
            let split = spec(validation, test, false, true);
            let division = divide(&split, len, |_| 0, Key::new(1)).unwrap();
            let found = (
                division.train.len(),
                division.validation.len(),
                division.test.len(),
            );
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn impossible_fractions() {
        let divide = |validation, test, len| {
            divide(
                &spec(validation, test, false, true),
                len,
                |_| 0,
                Key::new(1),
            )
            .unwrap_err()
            .to_string()
        };
        assert!(divide(0.001, 0.0, 100).contains("split.validation: 0.001 of 100 samples"));
        assert!(divide(0.1, 0.004, 100).contains("split.test: 0.004 of 100 samples"));
        assert!(divide(0.6, 0.4, 10).contains("leave none for training"));
        assert!(divide(0.99, 0.0, 2).contains("leave none for training"));
        assert!(divide(1.0, 0.0, 10).contains("1 is not in [0, 1)"));
        assert!(divide(0.1, -0.1, 10).contains("-0.1 is not in [0, 1)"));
        assert!(divide(f64::NAN, 0.0, 10).contains("NaN is not in [0, 1)"));
    }

    #[test]
    fn the_seed_decides() {
        let split = spec(0.2, 0.2, false, true);
        let divide = |seed| divide(&split, 500, |_| 0, Key::new(seed)).unwrap();
        assert_eq!(divide(3), divide(3));
        assert_ne!(divide(3), divide(4));
        // In random order too, so that the first few stand for all.
        assert!(!divide(3).train.is_sorted());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn every_sample_is_in_one_part(
            groups in prop::collection::vec(0u32..7, 20..400),
            validation in 0.05f64..0.4, test in 0.05f64..0.4,
            stratify: bool, shuffle: bool, seed: u64,
        ) {
            let len = groups.len();
            let group_of = |index: usize| if stratify { groups[index] } else { 0 };
            let split = spec(validation, test, stratify, shuffle);
            let division = divide(&split, len, group_of, Key::new(seed)).unwrap();
            prop_assert_eq!(division.validation.len(), (len as f64 * validation).round() as usize);
            prop_assert_eq!(division.test.len(), (len as f64 * test).round() as usize);
            let mut all: Vec<u32> = [&division.train, &division.validation, &division.test]
                .into_iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..len as u32).collect::<Vec<_>>());
            let present = (0..7).filter(|group| groups.contains(group)).count();
            if !stratify || division.train.len() < present {
                return Ok(());
            }
            let size_of = |group| groups.iter().filter(|&&g| g == group).count();
            let trained = division.train.len() as f64 / len as f64;
            // Where a small group has to keep its last samples, the others stand in for it.
            let roomy = (0..7).all(|group| match size_of(group) {
                0 => true,
                size => size as f64 * trained >= 3.0,
            });
            for group in 0..7 {
                let size = size_of(group);
                for (part, fraction) in [
                    (&division.validation, division.validation.len() as f64 / len as f64),
                    (&division.test, division.test.len() as f64 / len as f64),
                ] {
                    let here = part.iter().filter(|&&i| groups[i as usize] == group).count();
                    let off = (here as f64 - size as f64 * fraction).abs();
                    prop_assert!(!roomy || off < 1.0 + 1e-9, "{off}: largest remainders stay within one");
                }
                if size > 0 {
                    let trained = division.train.iter().filter(|&&i| groups[i as usize] == group);
                    prop_assert!(trained.count() > 0, "group {} of {} has none to train", group, size);
                }
            }
        }
    }

    #[test]
    fn a_small_group_is_not_used_up() {
        // 4 of 20 samples are left to train, one for each of the groups of 15, 1, 1 and 3.
        let group_of = |index: usize| [0, 1, 2, 3][index.saturating_sub(14).min(3)];
        let division = divide(&spec(0.4, 0.4, true, false), 20, group_of, Key::new(1)).unwrap();
        let mut groups: Vec<u32> = division
            .train
            .iter()
            .map(|&i| group_of(i as usize))
            .collect();
        groups.sort_unstable();
        assert_eq!(groups, [0, 1, 2, 3]);
    }

    #[test]
    fn a_lone_sample_trains() {
        // Group 1 has one sample only, at the end.
        let group_of = |index: usize| u32::from(index == 9);
        let division = divide(&spec(0.3, 0.3, true, false), 10, group_of, Key::new(1)).unwrap();
        assert!(division.train.contains(&9));
        assert_eq!((division.validation.len(), division.test.len()), (3, 3));
    }
}
