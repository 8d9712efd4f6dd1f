//! `gated`: half of a dense layer decides what of the other half goes on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trainyard_common::network::{
    Builder, Dense, Findings, Function, Initializer, Layer, Merge, NewParameter, Op, Pointwise,
    Problem, Tensor,
};

/// (x W + b) * sigmoid(x V + c), value by value; Dauphin et al. 2017.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gated {
    units: usize,
    #[serde(default)]
    kernel_initializer: Initializer,
}

impl Layer for Gated {
    const WORD: &'static str = "gated";
    const ABOUT: &'static str = "`[features]` to `[units]`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.units, format!("{path}.units"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let [input] = inputs else {
            return Err(Problem::other("takes one input"));
        };
        let value = self.half(at, input, "value")?;
        let gate = self.half(at, input, "gate")?;
        let shape = vec![self.units];
        let sigmoid = Op::Activation(Pointwise {
            function: Function::Sigmoid,
            width: self.units,
        });
        let gate = at.apply(sigmoid, &[&gate], shape.clone(), Vec::new())?;
        at.apply(
            Op::Merge(Merge::Multiply),
            &[&value, &gate],
            shape,
            Vec::new(),
        )
    }
}

impl Gated {
    fn half(&self, at: &mut Builder, input: &Tensor, role: &str) -> Result<Tensor, Problem> {
        let [features] = input.shape[..] else {
            return Err(Problem::NeedsFlat(input.shape.clone()));
        };
        let op = Op::Dense(Dense {
            inputs: features,
            units: self.units,
            bias: true,
            relu: false,
        });
        let kernel = NewParameter::drawn(
            format!("{role}_kernel"),
            vec![features, self.units],
            self.kernel_initializer,
            (features, self.units),
        );
        let bias = NewParameter::constant(format!("{role}_bias"), vec![self.units], 0.0);
        at.apply(op, &[input], vec![self.units], vec![kernel, bias])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_common::network::ModelSpec;
    use trainyard_common::network::layers::{self, Kind};

    use super::Gated;

    #[test]
    fn it_stands_among_the_other_layers() {
        layers::register(vec![Kind::of::<Gated>()]).unwrap();
        let model = json!({"layers": [
            {"gated": {"units": 6, "name": "gate"}}, {"dense": {"units": 2}},
        ]});
        let model: ModelSpec = serde_json::from_value(model).unwrap();
        let graph = model.graph(&[4]).unwrap();
        let names: Vec<&str> = graph.parameters.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names[..4],
            [
                "gate.value_kernel",
                "gate.value_bias",
                "gate.gate_kernel",
                "gate.gate_bias"
            ]
        );
        assert_eq!(graph.summary().trainable(), 2 * (4 * 6 + 6) + 6 * 2 + 2);
        let refused = model.graph(&[1, 2, 2]).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("layer gate (gated): needs a flat input"),
            "{refused}"
        );
        assert_eq!(layers::register(vec![Kind::of::<Gated>()]), Err("gated"));
    }
}
