//! Minimization of a smooth function in a box: limited-memory BFGS (Nocedal and Wright 2006, algorithm 7.4)
//! on the variables that no bound holds (Bertsekas 1982, "Projected Newton methods").

use std::collections::VecDeque;

use super::linalg::dot;

/// Pairs of steps and gradients' changes that are kept.
const MEMORY: usize = 8;

/// Share of the decrease that the slope promises which a step must bring (Armijo).
const SUFFICIENT: f64 = 1e-4;

/// Halvings of a step before the search ends.
const MAX_HALVINGS: u32 = 12;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    pub(super) steps: usize,
    /// Decrease of one step, in the function's unit.
    pub(super) decrease: f64,
    /// Largest entry of the projected gradient.
    pub(super) gradient: f64,
}

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse: f64,
}

/// Moves x to a minimum nearby and returns the value there. `function` writes its gradient and returns its
/// value; where it is not defined, infinity.
pub(super) fn minimize(
    x: &mut [f64],
    bounds: &[(f64, f64)],
    stop: Stop,
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> f64 {
    for (x, (low, high)) in x.iter_mut().zip(bounds) {
        *x = x.clamp(*low, *high);
    }
    let mut gradient = vec![0.0; x.len()];
    let mut value = function(x, &mut gradient);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let mut next_gradient = vec![0.0; x.len()];
    for _ in 0..stop.steps {
        let free = free(x, bounds, &gradient);
        let largest = free.iter().zip(&gradient).filter(|(free, _)| **free);
        let largest = largest.fold(0.0, |most, (_, slope)| f64::max(most, slope.abs()));
        if !value.is_finite() || largest <= stop.gradient {
            break;
        }
        let direction = direction(&gradient, &free, &pairs);
        // The first step has no curvature to go by: a tenth of the box at most.
        let mut length = if pairs.is_empty() {
            f64::min(1.0, 0.1 / largest)
        } else {
            1.0
        };
        let mut found = None;
        for _ in 0..MAX_HALVINGS {
            let next = projected(x, &direction, length, bounds);
            let promised: f64 = (0..x.len()).map(|i| gradient[i] * (next[i] - x[i])).sum();
            let there = function(&next, &mut next_gradient);
            if there <= value + SUFFICIENT * promised && promised < 0.0 {
                found = Some((next, there));
                break;
            }
            length *= if there.is_finite() { 0.4 } else { 0.1 };
        }
        let Some((next, there)) = found else {
            if pairs.is_empty() {
                break;
            }
            pairs.clear();
            continue;
        };
        remember(&mut pairs, x, &next, &gradient, &next_gradient);
        let decrease = value - there;
        x.copy_from_slice(&next);
        std::mem::swap(&mut gradient, &mut next_gradient);
        value = there;
        if decrease <= stop.decrease {
            break;
        }
    }
    value
}

/// Whether each variable can move against its slope.
fn free(x: &[f64], bounds: &[(f64, f64)], gradient: &[f64]) -> Vec<bool> {
    let variables = x.iter().zip(bounds).zip(gradient);
    let held = |((x, (low, high)), slope): ((&f64, &(f64, f64)), &f64)| -> bool {
        (*x <= *low && *slope > 0.0) || (*x >= *high && *slope < 0.0)
    };
    variables.map(|variable| !held(variable)).collect()
}

/// -H g by the two loops, H the inverse Hessian's estimate; the steepest descent where that is not downhill.
fn direction(gradient: &[f64], free: &[bool], pairs: &VecDeque<Pair>) -> Vec<f64> {
    let mask = |vector: &mut [f64]| {
        for (entry, free) in vector.iter_mut().zip(free) {
            *entry = if *free { *entry } else { 0.0 };
        }
    };
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    mask(&mut direction);
    let steepest = direction.clone();
    let mut weights = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let weight = pair.inverse * dot(&pair.step, &direction);
        super::linalg::add(&mut direction, -weight, &pair.change);
        weights.push(weight);
    }
    if let Some(last) = pairs.back() {
        let scale = 1.0 / (last.inverse * dot(&last.change, &last.change));
        direction.iter_mut().for_each(|entry| *entry *= scale);
    }
    for (pair, weight) in pairs.iter().zip(weights.iter().rev()) {
        let other = pair.inverse * dot(&pair.change, &direction);
        super::linalg::add(&mut direction, weight - other, &pair.step);
    }
    mask(&mut direction);
    if dot(&direction, &steepest) > 0.0 {
        direction
    } else {
        steepest
    }
}

fn projected(x: &[f64], direction: &[f64], length: f64, bounds: &[(f64, f64)]) -> Vec<f64> {
    let moves = x.iter().zip(direction).zip(bounds);
    moves
        .map(|((x, along), (low, high))| (x + length * along).clamp(*low, *high))
        .collect()
}

/// Keeps a pair where the curvature along the step is positive.
fn remember(
    pairs: &mut VecDeque<Pair>,
    x: &[f64],
    next: &[f64],
    gradient: &[f64],
    next_gradient: &[f64],
) {
    let minus =
        |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
    let (step, change) = (minus(next, x), minus(next_gradient, gradient));
    let curvature = dot(&step, &change);
    if curvature > 1e-10 * dot(&change, &change) {
        if pairs.len() == MEMORY {
            pairs.pop_front();
        }
        pairs.push_back(Pair {
            step,
            change,
            inverse: 1.0 / curvature,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Stop = Stop {
        steps: 200,
        decrease: 0.0,
        gradient: 1e-8,
    };

    fn rosenbrock(x: &[f64], gradient: &mut [f64]) -> f64 {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        gradient[0] = -2.0 * a - 400.0 * b * x[0];
        gradient[1] = 200.0 * b;
        a * a + 100.0 * b * b
    }

    #[test]
    fn rosenbrocks_valley_is_followed_to_its_end() {
        let mut x = [-1.2, 1.0];
        let value = minimize(&mut x, &[(-2.0, 2.0); 2], STOP, rosenbrock);
        assert!(value < 1e-15 && (x[0] - 1.0).abs() < 1e-7, "{x:?} {value}");
    }

    #[test]
    fn a_bound_holds_what_would_go_beyond() {
        // At x0 <= 0.5 the minimum is x1 = x0^2 = 0.25, value 0.25.
        let mut x = [-1.2, 1.0];
        let value = minimize(&mut x, &[(-2.0, 0.5), (-2.0, 2.0)], STOP, rosenbrock);
        assert!((value - 0.25).abs() < 1e-12, "{value}");
        assert_eq!(x[0], 0.5);
        assert!((x[1] - 0.25).abs() < 1e-7);
    }

    #[test]
    fn what_is_not_defined_is_not_entered() {
        let mut x = [0.9];
        let value = minimize(&mut x, &[(0.0, 1.0)], STOP, |x, gradient| {
            gradient[0] = 1.0;
            if x[0] < 0.3 { f64::INFINITY } else { x[0] }
        });
        assert!((0.3..0.31).contains(&value), "{value}");
        let mut x = [0.5];
        assert_eq!(
            minimize(&mut x, &[(0.0, 1.0)], STOP, |_, _| f64::INFINITY),
            f64::INFINITY
        );
        assert_eq!(minimize(&mut [], &[], STOP, |_, _| 3.0), 3.0);
    }
}
