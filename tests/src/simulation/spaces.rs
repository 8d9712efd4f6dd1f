//! The spaces that jobs search, and what a configuration of each must be: its active hyperparameters, their ranges
//! and the constraints, said once more by hand. Knows nothing of the product's own space.

use serde_json::Value;
use trainyard_common::spec::Params;

/// A space to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// What a kind of job says itself; there is nothing to hold against it.
    Own,
    /// Two numbers and a choice, for several objectives.
    Pair,
    /// One configuration of eight is allowed.
    Order,
    /// One of some four hundred thousand is: draws are led there.
    Simplex,
    /// Hyperparameters of hyperparameters.
    Branch,
    /// The same, and constraints of which some do not apply.
    Bounded,
    /// Seventeen configurations.
    Few,
}

/// Allowed configurations of [`Shape::Few`].
pub(super) const ALLOWED_OF_FEW: usize = 17;

/// The sum of the simplex.
const SUM: f64 = 0.2;
const TERMS: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];

/// Sums of decimals may err by this.
const ROUNDING: f64 = 1e-9;

const BRANCH: &str = "hyperparameters:
  net: {type: categorical, vals: [tree, line, none]}
  depth: {type: int, minval: 1, maxval: 3, when: {net: tree}}
  deep: {type: double, minval: 0, maxval: 1, when: {depth: [2, 3]}}
  lr: {type: double, minval: 0.01, maxval: 1, log: true, when: {net: [tree, line]}}
  x: {type: double, minval: 0, maxval: 1}
";

impl Shape {
    /// As a spec says it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Pair => {
                "hyperparameters:
  x: {type: double, minval: 0, maxval: 1}
  y: {type: double, minval: 0, maxval: 1}
  c: {type: categorical, vals: [a, b, c]}
"
            }
            Self::Order => {
                "hyperparameters:
  a: {type: double, minval: 0, maxval: 1}
  b: {type: double, minval: 0, maxval: 1}
  n: {type: int, minval: 1, maxval: 4}
constraints: [a < b, a + b <= 1, n <= 2 or a <= 0.1]
"
            }
            Self::Simplex => {
                "hyperparameters:
  p0: {type: double, minval: 0, maxval: 1}
  p1: {type: double, minval: 0, maxval: 1}
  p2: {type: double, minval: 0, maxval: 1}
  p3: {type: double, minval: 0, maxval: 1}
  p4: {type: double, minval: 0, maxval: 1}
constraints: [p0 + p1 + p2 + p3 + p4 <= 0.2]
"
            }
            Self::Branch => BRANCH,
            Self::Bounded => {
                "hyperparameters:
  net: {type: categorical, vals: [tree, line, none]}
  depth: {type: int, minval: 1, maxval: 3, when: {net: tree}}
  deep: {type: double, minval: 0, maxval: 1, when: {depth: [2, 3]}}
  lr: {type: double, minval: 0.01, maxval: 1, log: true, when: {net: [tree, line]}}
  x: {type: double, minval: 0, maxval: 1}
constraints: [lr + deep <= 0.6, x >= lr]
"
            }
            Self::Few => {
                "hyperparameters:
  n: {type: int, minval: 1, maxval: 3}
  m: {type: int, minval: 1, maxval: 3}
  more: {type: boolean}
  extra: {type: int, minval: 0, maxval: 1, when: {more: true}}
constraints: [n <= m, n + extra <= 3]
"
            }
        }
    }

    /// Whether it has no more than a handful of configurations.
    pub(super) fn is_few(self) -> bool {
        self == Self::Few
    }

    pub(super) fn is_constrained(self) -> bool {
        !matches!(self, Self::Own | Self::Pair | Self::Branch)
    }

    /// Numbers that are searched as such, and their ranges.
    pub(super) fn doubles(self) -> &'static [(&'static str, f64, f64)] {
        match self {
            Self::Pair => &[("x", 0.0, 1.0), ("y", 0.0, 1.0)],
            Self::Order => &[("a", 0.0, 1.0), ("b", 0.0, 1.0)],
            Self::Simplex => &[
                ("p0", 0.0, 1.0),
                ("p1", 0.0, 1.0),
                ("p2", 0.0, 1.0),
                ("p3", 0.0, 1.0),
                ("p4", 0.0, 1.0),
            ],
            Self::Branch | Self::Bounded => {
                &[("deep", 0.0, 1.0), ("lr", 0.01, 1.0), ("x", 0.0, 1.0)]
            }
            Self::Own | Self::Few => &[],
        }
    }

    /// Two numbers, mostly from 0 to 1, on which a trial's values depend.
    pub(super) fn features(self, params: &Params) -> (f64, f64) {
        let at = |name: &str, absent: f64| number(params, name).unwrap_or(absent);
        match self {
            Self::Own => (at("x", 0.0), 0.0),
            Self::Pair => (at("x", 0.0), at("y", 0.0)),
            Self::Order => (at("a", 0.0) + 0.1 * at("n", 0.0), at("b", 0.0)),
            Self::Simplex => (at("p0", 0.0) / SUM, at("p1", 0.0) / SUM),
            Self::Branch | Self::Bounded => {
                let x = (at("x", 0.0) + at("lr", 0.3) + at("deep", 0.1)) / 3.0;
                (x, at("lr", 0.5))
            }
            Self::Few => ((at("n", 0.0) + at("extra", 0.5)) / 4.0, at("m", 0.0) / 3.0),
        }
    }

    /// The hyperparameters that a configuration has, in the order of the spec, by the values of their parents.
    fn active(self, params: &Params) -> Vec<&'static str> {
        let net = params.get("net").and_then(Value::as_str);
        let deep = number(params, "depth").is_some_and(|depth| depth >= 2.0);
        let more = params.get("more") == Some(&Value::Bool(true));
        let all: &[(&'static str, bool)] = match self {
            Self::Own => &[],
            Self::Pair => &[("x", true), ("y", true), ("c", true)],
            Self::Order => &[("a", true), ("b", true), ("n", true)],
            Self::Simplex => return TERMS.to_vec(),
            Self::Branch | Self::Bounded => &[
                ("net", true),
                ("depth", net == Some("tree")),
                ("deep", net == Some("tree") && deep),
                ("lr", net == Some("tree") || net == Some("line")),
                ("x", true),
            ],
            Self::Few => &[("n", true), ("m", true), ("more", true), ("extra", more)],
        };
        let active = all.iter().filter(|(_, active)| *active);
        active.map(|(name, _)| *name).collect()
    }

    /// Whether some hyperparameter is inactive in a configuration.
    pub(super) fn has_inactive(self, params: &Params) -> bool {
        let all = match self {
            Self::Branch | Self::Bounded => 5,
            Self::Few => 4,
            _ => 0,
        };
        params.len() < all
    }

    /// Whether a configuration is one of the space.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(self, params: &Params) -> Result<(), String> {
        if self == Self::Own {
            return Ok(());
        }
        let active = self.active(params);
        let given: Vec<&str> = params.keys().map(String::as_str).collect();
        if given != active {
            return Err(format!("has {given:?}, and active are {active:?}"));
        }
        for (name, least, most) in self.doubles() {
            let value = number(params, name);
            if value.is_some_and(|value| !(*least..=*most).contains(&value)) {
                return Err(format!("{name} is {value:?}, not in {least} to {most}"));
            }
        }
        self.whole_numbers(params)?;
        match self.broken(params) {
            Some(constraint) => Err(format!("breaks {constraint}")),
            None => Ok(()),
        }
    }

    fn whole_numbers(self, params: &Params) -> Result<(), String> {
        let ranges: &[(&str, i64, i64)] = match self {
            Self::Order => &[("n", 1, 4)],
            Self::Branch | Self::Bounded => &[("depth", 1, 3)],
            Self::Few => &[("n", 1, 3), ("m", 1, 3), ("extra", 0, 1)],
            _ => &[],
        };
        for (name, least, most) in ranges {
            let Some(value) = params.get(*name) else {
                continue;
            };
            let whole = value.as_i64();
            if whole.is_none_or(|whole| !(*least..=*most).contains(&whole)) {
                return Err(format!("{name} is {value}, not one of {least} to {most}"));
            }
        }
        Ok(())
    }

    /// A constraint that a configuration breaks. One that names what is inactive does not apply.
    fn broken(self, params: &Params) -> Option<&'static str> {
        let at = |name: &str| number(params, name);
        let breaks: [(&'static str, Option<bool>); 3] = match self {
            Self::Order => {
                let (a, b, n) = (at("a")?, at("b")?, at("n")?);
                [
                    ("a < b", Some(a >= b)),
                    ("a + b <= 1", Some(a + b > 1.0 + ROUNDING)),
                    ("n <= 2 or a <= 0.1", Some(n > 2.0 && a > 0.1 + ROUNDING)),
                ]
            }
            Self::Simplex => {
                let sum: f64 = TERMS.iter().filter_map(|name| at(name)).sum();
                let breaks = Some(sum > SUM + ROUNDING);
                [("the sum <= 0.2", breaks), ("", None), ("", None)]
            }
            Self::Bounded => {
                let both = at("lr").zip(at("deep"));
                let beside = at("lr").zip(at("x"));
                [
                    (
                        "lr + deep <= 0.6",
                        both.map(|(lr, deep)| lr + deep > 0.6 + ROUNDING),
                    ),
                    ("x >= lr", beside.map(|(lr, x)| x < lr - ROUNDING)),
                    ("", None),
                ]
            }
            Self::Few => {
                let (n, m) = (at("n")?, at("m")?);
                [
                    ("n <= m", Some(n > m)),
                    ("n + extra <= 3", at("extra").map(|extra| n + extra > 3.0)),
                    ("", None),
                ]
            }
            Self::Own | Self::Pair | Self::Branch => return None,
        };
        let mut broken = breaks
            .into_iter()
            .filter(|(_, breaks)| *breaks == Some(true));
        broken.next().map(|(name, _)| name)
    }
}

fn number(params: &Params, name: &str) -> Option<f64> {
    params.get(name).and_then(Value::as_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(shape: Shape, params: Value) -> Result<(), String> {
        shape.check(params.as_object().unwrap())
    }

    #[test]
    fn what_is_none_of_a_space_is_told() {
        let order = |a: f64, b: f64, n: i64| check(Shape::Order, json!({"a": a, "b": b, "n": n}));
        assert_eq!(order(0.1, 0.5, 4), Ok(()));
        for (a, b, n) in [(0.5, 0.4, 1), (0.4, 0.7, 1), (0.2, 0.5, 3), (0.1, 0.5, 5)] {
            assert!(order(a, b, n).is_err(), "{a} {b} {n}");
        }
        let branch = |params| check(Shape::Branch, params);
        assert_eq!(branch(json!({"net": "none", "x": 0.5})), Ok(()));
        assert!(branch(json!({"net": "none", "lr": 0.5, "x": 0.5})).is_err());
        assert!(branch(json!({"net": "line", "x": 0.5})).is_err());
        let tree = |depth: i64| json!({"net": "tree", "depth": depth, "lr": 0.5, "x": 0.6});
        assert_eq!(branch(tree(1)), Ok(()));
        assert!(branch(tree(2)).is_err(), "`deep` is active");
        assert!(Shape::Branch.has_inactive(tree(1).as_object().unwrap()));
        let bounded = |params| check(Shape::Bounded, params);
        assert_eq!(bounded(tree(1)), Ok(()));
        assert!(bounded(json!({"net": "line", "lr": 0.5, "x": 0.4})).is_err());
        let third = json!({"p0": 0.1, "p1": 0.05, "p2": 0, "p3": 0.05, "p4": 0.01});
        assert!(check(Shape::Simplex, third).is_err());
    }

    #[test]
    fn so_many_configurations_are_few() {
        let mut allowed = 0;
        for (n, m, extra) in (0..45).map(|at| (at % 5, at / 5 % 3 + 1, at / 15)) {
            let mut params = json!({"n": n, "m": m, "more": extra > 0});
            if extra > 0 {
                params["extra"] = json!(extra - 1);
            }
            allowed += usize::from(check(Shape::Few, params).is_ok());
        }
        assert_eq!(allowed, ALLOWED_OF_FEW);
    }
}
