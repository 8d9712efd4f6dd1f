//! How a member of a population varies the hyperparameters that it took over (Jaderberg et al. 2017,
//! "Population Based Training of Neural Networks", section 4).
//!
//! Each hyperparameter by itself is drawn anew with some probability, and else perturbed: a number is
//! multiplied by one of the factors, on its linear scale, and kept in its range; a number with steps, or an
//! ordinal, moves by at least one step in the factor's direction; a categorical is drawn anew. One that
//! becomes active is drawn. A configuration that breaks a constraint is tried again with other draws.

use trainyard_common::rng::Key;
use trainyard_common::space::{Domain, SearchSpace};
use trainyard_common::spec::Params;

use serde_json::{Number, Value};

/// Variations before the hyperparameters are left as they are.
const MAX_TRIES: u64 = 64;

#[derive(Debug, Clone)]
pub(super) struct Explore {
    pub(super) factors: Vec<f64>,
    pub(super) resample: f64,
}

impl Explore {
    /// A variation that the space has; `base` itself where none was found.
    pub(super) fn vary(&self, space: &SearchSpace, base: &Params, key: Key) -> Params {
        (0..MAX_TRIES)
            .map(|attempt| self.attempt(space, base, key.with(attempt)))
            .find(|params| space.contains(params).is_ok())
            .unwrap_or_else(|| base.clone())
    }

    fn attempt(&self, space: &SearchSpace, base: &Params, key: Key) -> Params {
        assemble(space, |name, domain| {
            let key = key.named(name);
            match base.get(name) {
                Some(value) if key.unit(0) >= self.resample => self.perturb(domain, value, key),
                _ => domain.sample(key.with(1)),
            }
        })
    }

    fn perturb(&self, domain: &Domain, value: &Value, key: Key) -> Value {
        let which = key.below(1, self.factors.len() as u64) as usize;
        let factor = self.factors.get(which).copied().unwrap_or(1.0);
        match domain {
            Domain::Const(_) => value.clone(),
            Domain::Categorical(_) => domain.sample(key.with(1)),
            Domain::Double {
                min,
                max,
                step: None,
                ..
            } => {
                let moved = value.as_f64().map(|x| (x * factor).clamp(*min, *max));
                let number = moved.and_then(Number::from_f64);
                number.map_or_else(|| value.clone(), Value::Number)
            }
            Domain::Double { .. } | Domain::Int { .. } | Domain::Ordinal(_) => {
                let moved = stepped(domain, value, factor);
                moved.unwrap_or_else(|| value.clone())
            }
        }
    }
}

/// A configuration of what `choose` gives to active hyperparameters, in the order of the spec.
pub(super) fn assemble(
    space: &SearchSpace,
    mut choose: impl FnMut(&str, &Domain) -> Value,
) -> Params {
    let parameters = space.parameters();
    let mut chosen = Params::new();
    for &position in space.parents_first() {
        if space.is_active(position, &chosen)
            && let Some(parameter) = parameters.get(position)
        {
            let value = choose(&parameter.name, &parameter.domain);
            chosen.insert(parameter.name.clone(), value);
        }
    }
    let names = parameters.iter();
    names
        .filter_map(|parameter| chosen.remove_entry(&parameter.name))
        .collect()
}

/// The value of the grid nearest to `factor` times the value, at least one step away, as far as the range
/// goes. An ordinal moves by one.
fn stepped(domain: &Domain, value: &Value, factor: f64) -> Option<Value> {
    let last = domain.grid_len()?.checked_sub(1)? as f64;
    let (position, target) = match domain {
        Domain::Double {
            min,
            step: Some(step),
            ..
        } => {
            let x = value.as_f64()?;
            let position = libm::round((x - min) / step);
            (position, libm::round((x * factor - min) / step))
        }
        Domain::Int { min, step, .. } => {
            let (x, min, step) = (value.as_f64()?, *min as f64, *step as f64);
            let position = libm::round((x - min) / step);
            (position, libm::round((x * factor - min) / step))
        }
        _ => {
            // Counted in choices; the share of a choice is the middle of its cell.
            let position = libm::floor(domain.share(value)? * (last + 1.0));
            (position, position)
        }
    };
    if factor == 1.0 {
        return Some(value.clone());
    }
    // Away from 0 or towards it; from 0 itself, or for a choice, up or down.
    let negative = value.as_f64().is_some_and(|x| x < 0.0) && !matches!(domain, Domain::Ordinal(_));
    let direction = if (factor > 1.0) == negative {
        -1.0
    } else {
        1.0
    };
    let least = position + direction;
    let moved = if direction > 0.0 {
        target.max(least)
    } else {
        target.min(least)
    };
    Some(domain.grid_at(moved.clamp(0.0, last) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trainyard_common::spec::Space;

    fn space(value: Value) -> SearchSpace {
        let space: Space = serde_json::from_value(value).unwrap();
        SearchSpace::new(&space).unwrap()
    }

    fn params(value: Value) -> Params {
        value.as_object().unwrap().clone()
    }

    /// Every value that a hyperparameter can be perturbed to, in the order of first appearance.
    fn perturbed(spec: Value, value: Value, factors: &[f64]) -> Vec<Value> {
        let space = space(json!({ "x": spec }));
        let explore = Explore {
            factors: factors.to_vec(),
            resample: 0.0,
        };
        let base = params(json!({ "x": value }));
        let mut seen = Vec::new();
        for seed in 0..200 {
            let varied = explore.vary(&space, &base, Key::new(seed));
            space.contains(&varied).unwrap();
            if !seen.contains(&varied["x"]) {
                seen.push(varied["x"].clone());
            }
        }
        seen.sort_by(|a, b| a.as_f64().partial_cmp(&b.as_f64()).unwrap());
        seen
    }

    #[test]
    fn numbers_are_multiplied_and_kept_in_their_range() {
        let factors = [0.8, 1.2];
        let lr = json!({"type": "double", "minval": 0.001, "maxval": 0.11, "log": true});
        assert_eq!(
            perturbed(lr.clone(), json!(0.1), &factors),
            [json!(0.1 * 0.8), json!(0.11)]
        );
        assert_eq!(
            perturbed(lr, json!(0.001), &factors),
            [json!(0.001), json!(0.0012)]
        );
        let signed = json!({"type": "double", "minval": -1, "maxval": 1});
        assert_eq!(
            perturbed(signed, json!(-0.5), &factors),
            [json!(-0.6), json!(-0.4)]
        );
    }

    #[test]
    fn steps_and_ordinals_move_by_at_least_one() {
        let factors = [0.8, 1.2];
        let units = json!({"type": "int", "minval": 1, "maxval": 100});
        assert_eq!(perturbed(units.clone(), json!(2), &factors), [1, 3]);
        assert_eq!(perturbed(units.clone(), json!(50), &factors), [40, 60]);
        assert_eq!(perturbed(units.clone(), json!(1), &factors), [1, 2]);
        assert_eq!(perturbed(units, json!(100), &factors), [80, 100]);
        let signed = json!({"type": "int", "minval": -4, "maxval": 4, "step": 2});
        assert_eq!(perturbed(signed.clone(), json!(-2), &factors), [-4, 0]);
        assert_eq!(perturbed(signed, json!(0), &factors), [-2, 2]);
        let stepped = json!({"type": "double", "minval": 0, "maxval": 1, "step": 0.1});
        assert_eq!(
            perturbed(stepped, json!(0.3), &factors),
            [json!(0.2), json!(0.4)]
        );
        let ordinal = json!({"type": "ordinal", "vals": [16, 64, 128, 1024]});
        assert_eq!(perturbed(ordinal.clone(), json!(64), &factors), [16, 128]);
        assert_eq!(perturbed(ordinal, json!(1024), &factors), [128, 1024]);
        let negative = json!({"type": "ordinal", "vals": [-3, -1, 2]});
        assert_eq!(perturbed(negative.clone(), json!(-1), &[1.2]), [2]);
        assert_eq!(
            perturbed(negative, json!(-1), &[1.0]),
            [-1],
            "the factor 1 leaves all"
        );
    }

    #[test]
    fn categoricals_are_drawn_and_constants_stay() {
        let choice = json!({"type": "categorical", "vals": [1, 2, 3]});
        assert_eq!(perturbed(choice, json!(2), &[0.8, 1.2]), [1, 2, 3]);
        assert_eq!(
            perturbed(json!({"type": "const", "val": 7}), json!(7), &[0.8]),
            [7]
        );
    }

    #[test]
    fn each_is_drawn_anew_as_often_as_told() {
        let space = space(json!({"x": {"type": "double", "minval": 0, "maxval": 1}}));
        let base = params(json!({"x": 0.5}));
        let explore = Explore {
            factors: vec![0.8, 1.2],
            resample: 0.25,
        };
        let known = [json!(0.4), json!(0.6)];
        let drawn = (0..4_000)
            .filter(|seed| !known.contains(&explore.vary(&space, &base, Key::new(*seed))["x"]))
            .count();
        // Four standard deviations of a binomial: 4 * sqrt(4000 * 0.25 * 0.75).
        assert!((890..1_110).contains(&drawn), "{drawn}");
    }

    #[test]
    fn conditions_and_constraints_are_honoured() {
        let space = space(json!({
            "optimizer": {"type": "categorical", "vals": ["sgd", "adam"]},
            "momentum": {"type": "double", "minval": 0.1, "maxval": 0.9, "when": {"optimizer": "sgd"}},
            "a": {"type": "double", "minval": 0, "maxval": 1},
            "b": {"type": "double", "minval": 0, "maxval": 1},
        }))
        .constrained(&["a + b <= 1".to_owned()])
        .unwrap();
        let explore = Explore {
            factors: vec![0.8, 1.2],
            resample: 0.1,
        };
        let base = params(json!({"optimizer": "adam", "a": 0.5, "b": 0.5}));
        let mut with_momentum = 0;
        for seed in 0..500 {
            let varied = explore.vary(&space, &base, Key::new(seed));
            space.contains(&varied).unwrap();
            let names: Vec<&String> = varied.keys().collect();
            if varied["optimizer"] == "sgd" {
                assert_eq!(names, ["optimizer", "momentum", "a", "b"]);
                with_momentum += 1;
            } else {
                assert_eq!(names, ["optimizer", "a", "b"]);
            }
        }
        assert!((150..350).contains(&with_momentum), "{with_momentum}");
        // Nothing else is allowed: it stays as it is.
        let only = space.constrained(&["a == 0.5".to_owned(), "b == 0.5".to_owned()]);
        let varied = explore.vary(&only.unwrap(), &base, Key::new(1));
        assert_eq!(varied, base);
    }
}
