//! Which points a model is made of where there are too many.

/// Positions of `most` of the points, in their order: the best quarter, the latest quarter, and of the rest
/// evenly spaced ones. All where there are no more.
pub(super) fn subset(costs: &[f64], most: usize) -> Vec<usize> {
    let count = costs.len();
    if count <= most {
        return (0..count).collect();
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| costs[*a].total_cmp(&costs[*b]).then(a.cmp(b)));
    let mut kept = vec![false; count];
    let quarter = most / 4;
    order
        .iter()
        .take(most - 2 * quarter - quarter)
        .for_each(|at| kept[*at] = true);
    let latest = (0..count).rev().filter(|at| !kept[*at]);
    let latest: Vec<usize> = latest.take(quarter).collect();
    latest.into_iter().for_each(|at| kept[at] = true);
    let rest: Vec<usize> = (0..count).filter(|at| !kept[*at]).collect();
    let wanted = most - kept.iter().filter(|kept| **kept).count();
    for nth in 0..wanted {
        kept[rest[nth * rest.len() / wanted]] = true;
    }
    (0..count).filter(|at| kept[*at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_the_latest_and_some_of_all() {
        let costs: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 100)).collect();
        for most in [1, 2, 3, 4, 10, 40, 99] {
            let kept = subset(&costs, most);
            assert_eq!(kept.len(), most);
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            let best = (0..100).find(|at| costs[*at] == 0.0).unwrap();
            assert!(kept.contains(&best), "{most}");
        }
        let kept = subset(&costs, 40);
        assert!((92..100).all(|latest| kept.contains(&latest)));
        let best = (0..100).filter(|at| costs[*at] < 10.0);
        assert!(best.into_iter().all(|at| kept.contains(&at)));
        assert_eq!(subset(&costs, 100).len(), 100);
        assert_eq!(subset(&[], 3), [0; 0]);
    }
}
