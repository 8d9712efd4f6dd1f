//! Kendall's rank correlation (Kendall 1938, "A New Measure of Rank Correlation").

use std::cmp::Ordering;

/// Tau-a of pairs: two pairs in the same order on both sides count 1, in the opposite one -1, a tie on either side
/// nothing; the mean of all. 0 of fewer than two. Takes the square of their number.
pub(crate) fn tau<T>(pairs: &[(T, T)], order: impl Fn(&T, &T) -> Ordering) -> f64 {
    let (mut balance, mut all) = (0_i64, 0_i64);
    for (index, one) in pairs.iter().enumerate() {
        for other in pairs.iter().skip(index + 1) {
            balance += order(&one.0, &other.0) as i64 * order(&one.1, &other.1) as i64;
            all += 1;
        }
    }
    if all == 0 {
        return 0.0;
    }
    balance as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand: of the six pairs of pairs four are in the same order, one is tied, one is not.
    #[test]
    fn tau_counts_pairs() {
        let tau = |pairs: &[(u64, u64)]| tau(pairs, u64::cmp);
        assert_eq!(tau(&[(1, 1), (2, 3), (3, 2), (3, 4)]), 0.5);
        let same: Vec<(u64, u64)> = (0..7).map(|i| (i, 2 * i)).collect();
        let turned: Vec<(u64, u64)> = (0..7).map(|i| (i, 9 - i)).collect();
        assert_eq!((tau(&same), tau(&turned)), (1.0, -1.0));
        assert_eq!((tau(&[]), tau(&[(1, 1)])), (0.0, 0.0));
    }
}
