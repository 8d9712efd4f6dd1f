//! All that is shown of a search at once, from its trials as they stand.

use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::search::Mode;
use trainyard_common::spec::{ObjectiveSpec, Params};

use super::MANY_TRIALS;
use super::dependence::{Curve, curve};
use super::fanova::fanova;
use super::forest::Forest;
use super::hypervolume::reference;
use super::ped_anova::ped_anova;
use super::progress::{Best, best_so_far, hypervolume_so_far};
use crate::pareto;
use crate::search::axes::{Axes, Kind};

/// Fewest trials with a value from which importance is told; with fewer it is noise.
const MIN_TRIALS: usize = 8;

/// The share of the best trials that PED-ANOVA tells apart from the others.
const BEST: f64 = 0.1;

/// A cost further above the median than so many times the distance from the best to the median counts as that
/// far: one diverged loss would otherwise be all the variance.
const FAR: f64 = 3.0;

/// A trial as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Its number.
    pub trial: u32,
    pub params: Params,
    /// Of the first objective.
    pub value: Option<f64>,
    /// Of all objectives, where there are several and all are known; else empty.
    pub values: Vec<f64>,
}

/// How much a hyperparameter matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    pub parameter: String,
    /// Of the variance, by the forest (fANOVA); of what tells the good apart (PED-ANOVA) with many trials.
    pub share: f64,
    /// Standard deviation over the forest's trees; 0 with many trials.
    pub spread: f64,
}

/// What two hyperparameters explain together, beyond each alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    pub parameters: [String; 2],
    pub share: f64,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// Trials with a value.
    pub trials: usize,
    /// The most important first; empty where there are too few trials.
    pub importance: Vec<Importance>,
    pub interactions: Vec<Together>,
    /// How the first objective depends on each hyperparameter, the others averaged out, as values of the
    /// objective; in the order of importance.
    pub dependence: Vec<(String, Curve)>,
    /// The trials that were better than all before.
    pub history: Vec<(u32, f64)>,
    /// Trials that no other is better than in all objectives; empty with one objective.
    pub front: Vec<u32>,
    /// After each trial with all values: its number and the hypervolume until then; and what it is measured
    /// from.
    pub hypervolume: Vec<(u32, f64)>,
    pub reference: Vec<f64>,
}

/// Sums a search up. `points`: values at which each dependence is told.
pub fn summary(
    space: &SearchSpace,
    objectives: &[ObjectiveSpec],
    tried: &[Tried],
    points: usize,
) -> Summary {
    let axes = Axes::new(space.clone());
    let mode = objectives
        .first()
        .map_or(Mode::Minimize, |first| first.mode);
    let mut found = Summary {
        history: history(tried, mode),
        ..Summary::default()
    };
    several(objectives, tried, &mut found);
    let known: Vec<(Vec<f64>, f64)> = tried
        .iter()
        .filter_map(|trial| {
            let value = trial.value.filter(|value| value.is_finite())?;
            Some((axes.encode(&trial.params)?, mode.cost(value)))
        })
        .collect();
    found.trials = known.len();
    if known.len() >= MIN_TRIALS {
        matters(&axes, &capped(&known), mode, points, &mut found);
    }
    found
}

fn matters(axes: &Axes, known: &[(Vec<f64>, f64)], mode: Mode, points: usize, found: &mut Summary) {
    let pairs: Vec<(&[f64], f64)> = known
        .iter()
        .map(|(x, cost)| (x.as_slice(), *cost))
        .collect();
    let forest = Forest::fit(axes, &pairs, Key::new(0).named("insight"));
    let names: Vec<&str> = axes
        .space()
        .parameters()
        .iter()
        .map(|parameter| parameter.name.as_str())
        .collect();
    let free = |axis: usize| axes.axes()[axis].kind != Kind::Fixed;
    let analysed = fanova(&forest, known.len() < MANY_TRIALS);
    let effects: Vec<(usize, f64, f64)> = if known.len() < MANY_TRIALS {
        let effects = analysed.effects.iter();
        effects
            .map(|effect| (effect.axis, effect.share, effect.spread))
            .collect()
    } else {
        let shares = ped_anova(axes, &pairs, BEST).into_iter().enumerate();
        shares.map(|(axis, share)| (axis, share, 0.0)).collect()
    };
    let mut effects: Vec<(usize, f64, f64)> = effects
        .into_iter()
        .filter(|(axis, ..)| free(*axis))
        .collect();
    effects.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    for (axis, share, spread) in effects {
        found.importance.push(Importance {
            parameter: names[axis].to_owned(),
            share,
            spread,
        });
        if let Some(mut dependence) = curve(&forest, axes, axis, points) {
            let as_value = |cost: &mut f64| *cost = mode.cost(*cost);
            dependence.mean.iter_mut().for_each(as_value);
            found.dependence.push((names[axis].to_owned(), dependence));
        }
    }
    let together = analysed.interactions.iter().map(|pair| Together {
        parameters: pair.axes.map(|axis| names[axis].to_owned()),
        share: pair.share,
    });
    found.interactions = together.collect();
}

/// Costs without those that are far worse than the usual.
fn capped(known: &[(Vec<f64>, f64)]) -> Vec<(Vec<f64>, f64)> {
    let mut costs: Vec<f64> = known.iter().map(|(_, cost)| *cost).collect();
    costs.sort_by(f64::total_cmp);
    let (best, median) = (costs[0], costs[costs.len() / 2]);
    let most = median + FAR * (median - best);
    let most = if median > best { most } else { f64::INFINITY };
    known
        .iter()
        .map(|(point, cost)| (point.clone(), cost.min(most)))
        .collect()
}

fn history(tried: &[Tried], mode: Mode) -> Vec<(u32, f64)> {
    let values: Vec<Option<f64>> = tried.iter().map(|trial| trial.value).collect();
    let mut best: Vec<Best> = best_so_far(&values, mode).into_iter().flatten().collect();
    best.dedup();
    best.iter()
        .map(|best| (tried[best.trial].trial, best.value))
        .collect()
}

fn several(objectives: &[ObjectiveSpec], tried: &[Tried], found: &mut Summary) {
    if objectives.len() < 2 {
        return;
    }
    let costs: Vec<Option<Vec<f64>>> = tried
        .iter()
        .map(|trial| {
            let all = trial.values.len() == objectives.len();
            let each = objectives.iter().zip(&trial.values);
            all.then(|| each.map(|(of, value)| of.mode.cost(*value)).collect())
        })
        .collect();
    found.front = pareto::front(&costs)
        .into_iter()
        .map(|at| tried[at].trial)
        .collect();
    if let Some(reference) = reference(&costs) {
        let volumes = hypervolume_so_far(&costs, &reference);
        let known = tried.iter().zip(&costs).zip(volumes);
        let known = known.filter(|((_, costs), _)| costs.is_some());
        found.hypervolume = known
            .map(|((trial, _), volume)| (trial.trial, volume))
            .collect();
        let each = objectives.iter().zip(&reference);
        found.reference = each.map(|(of, cost)| of.mode.cost(*cost)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn space() -> SearchSpace {
        let space = json!({
            "a": {"type": "double", "minval": 0, "maxval": 1},
            "b": {"type": "double", "minval": 0, "maxval": 1},
            "kind": {"type": "categorical", "vals": ["x", "y"]},
            "fixed": {"type": "const", "val": 1},
        });
        SearchSpace::new(&serde_json::from_value(space).unwrap()).unwrap()
    }

    fn objectives(modes: &[&str]) -> Vec<ObjectiveSpec> {
        let each = modes
            .iter()
            .enumerate()
            .map(|(i, mode)| json!({"metric": format!("m{i}"), "mode": mode}));
        serde_json::from_value(Value::Array(each.collect())).unwrap()
    }

    fn tried(count: u64, value: impl Fn(f64, f64) -> Vec<f64>) -> Vec<Tried> {
        let space = space();
        (0..count)
            .map(|trial| {
                let params = space.sample(Key::new(trial));
                let number = |name: &str| params[name].as_f64().unwrap();
                let values = value(number("a"), number("b"));
                Tried {
                    trial: trial as u32,
                    value: values.first().copied(),
                    values: if values.len() > 1 { values } else { Vec::new() },
                    params,
                }
            })
            .collect()
    }

    #[test]
    fn what_matters_is_named_first_and_shown_as_values() {
        // One trial diverged; it is not what matters.
        let mut tried = tried(120, |a, b| vec![10.0 * a + b]);
        tried[7].value = Some(-1e9);
        let found = summary(&space(), &objectives(&["maximize"]), &tried, 5);
        assert_eq!(found.trials, 120);
        let names: Vec<&str> = found
            .importance
            .iter()
            .map(|of| of.parameter.as_str())
            .collect();
        assert_eq!(names.len(), 3);
        assert_eq!(names[0], "a");
        assert!(found.importance[0].share > 0.8, "{:?}", found.importance);
        let (name, curve) = &found.dependence[0];
        assert_eq!((name.as_str(), curve.mean.len()), ("a", 5));
        // Larger a, larger value: not the cost, which falls.
        assert!(curve.mean[4] > curve.mean[0] + 5.0, "{curve:?}");
        assert!(found.front.is_empty() && found.hypervolume.is_empty());
    }

    #[test]
    fn the_history_is_of_improvements() {
        let mut tried = tried(4, |_, _| vec![0.0]);
        for (trial, value) in tried
            .iter_mut()
            .zip([Some(3.0), None, Some(5.0), Some(2.0)])
        {
            trial.value = value;
        }
        let found = summary(&space(), &objectives(&["minimize"]), &tried, 5);
        assert_eq!(found.history, [(0, 3.0), (3, 2.0)]);
        assert_eq!((found.trials, found.importance.len()), (3, 0));
    }

    #[test]
    fn several_objectives_have_a_front() {
        let mut tried = tried(3, |_, _| vec![0.0, 0.0]);
        for (trial, values) in
            tried
                .iter_mut()
                .zip([vec![1.0, 1.0], vec![2.0, 3.0], vec![3.0, 0.5]])
        {
            trial.values = values;
        }
        // The first is minimized, the second maximized: (3, 0.5) is worse than both in both.
        let found = summary(&space(), &objectives(&["minimize", "maximize"]), &tried, 5);
        assert_eq!(found.front, [0, 1]);
        assert_eq!(found.hypervolume.len(), 3);
        assert!(
            found
                .hypervolume
                .windows(2)
                .all(|pair| pair[0].1 <= pair[1].1)
        );
        assert_eq!(found.reference.len(), 2);
    }
}
