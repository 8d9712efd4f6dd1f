//! `inception_v3`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Layers, Top};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::findings::Findings;
use crate::network::graph::Tensor;
use crate::network::layers::Layer;
use crate::network::layers::shared::only;

/// Szegedy et al. 2016, without the auxiliary classifier, for images of 299 x 299 and others of at least 75.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct InceptionV3 {
    #[serde(flatten)]
    top: Top,
}

impl InceptionV3 {
    fn layers(&self) -> Result<Layers, Problem> {
        let mut layers = Layers::default();
        let pool = json!({"size": 3, "stride": 2});
        layers.basic(
            "Conv2d_1a_3x3",
            json!({"filters": 32, "kernel": 3, "stride": 2}),
        );
        layers.basic("Conv2d_2a_3x3", json!({"filters": 32, "kernel": 3}));
        layers.basic("Conv2d_2b_3x3", square(64, 3));
        layers.add("max_pool2d", "", pool.clone());
        layers.basic("Conv2d_3b_1x1", square(80, 1));
        layers.basic("Conv2d_4a_3x3", json!({"filters": 192, "kernel": 3}));
        layers.add("max_pool2d", "maxpool2", pool);
        let mut module = Module {
            layers: &mut layers,
            name: String::new(),
            before: "maxpool2".to_owned(),
            outputs: Vec::new(),
        };
        module.fives();
        module.sixes();
        module.sevens();
        module.end();
        self.top.classify(&mut layers, "fc", Some(0.5))?;
        Ok(layers)
    }
}

/// A kernel of `size` x `size` that leaves the size of the image.
fn square(filters: usize, size: usize) -> Value {
    json!({"filters": filters, "kernel": size, "padding": size / 2})
}

/// A row of `size`.
fn across(filters: usize, size: usize) -> Value {
    json!({"filters": filters, "kernel": [1, size], "padding": [0, size / 2]})
}

/// A column of `size`.
fn along(filters: usize, size: usize) -> Value {
    json!({"filters": filters, "kernel": [size, 1], "padding": [size / 2, 0]})
}

fn halving(filters: usize) -> Value {
    json!({"filters": filters, "kernel": 3, "stride": 2})
}

type Step = (&'static str, Value);

/// Two kernels of 3 x 3 after one of 1 x 1.
fn thrice(name: &'static str, [first, second, third]: [usize; 3]) -> [Step; 3] {
    let names = match name {
        "branch3x3dbl" => ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"],
        other => [other; 3],
    };
    [
        (names[0], square(first, 1)),
        (names[1], square(second, 3)),
        (names[2], square(third, 3)),
    ]
}

/// A module in the making: branches over what the one before puts out, one after the other along the channels.
struct Module<'a> {
    layers: &'a mut Layers,
    name: String,
    before: String,
    outputs: Vec<String>,
}

impl Module<'_> {
    /// Modules of large images.
    fn fives(&mut self) {
        for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
            self.begin(name);
            self.branch(&[("branch1x1", square(64, 1))]);
            self.branch(&[
                ("branch5x5_1", square(48, 1)),
                ("branch5x5_2", square(64, 5)),
            ]);
            self.branch(&thrice("branch3x3dbl", [64, 96, 96]));
            self.pooled(pooled);
        }
    }

    /// The first halving, and modules of rows and columns of 7.
    fn sixes(&mut self) {
        self.begin("Mixed_6a");
        self.branch(&[("branch3x3", halving(384))]);
        let [first, second, _] = thrice("branch3x3dbl", [64, 96, 0]);
        self.branch(&[first, second, ("branch3x3dbl_3", halving(96))]);
        self.halved();
        for (name, narrow) in [
            ("Mixed_6b", 128),
            ("Mixed_6c", 160),
            ("Mixed_6d", 160),
            ("Mixed_6e", 192),
        ] {
            self.begin(name);
            self.branch(&[("branch1x1", square(192, 1))]);
            self.branch(&[
                ("branch7x7_1", square(narrow, 1)),
                ("branch7x7_2", across(narrow, 7)),
                ("branch7x7_3", along(192, 7)),
            ]);
            self.branch(&[
                ("branch7x7dbl_1", square(narrow, 1)),
                ("branch7x7dbl_2", along(narrow, 7)),
                ("branch7x7dbl_3", across(narrow, 7)),
                ("branch7x7dbl_4", along(narrow, 7)),
                ("branch7x7dbl_5", across(192, 7)),
            ]);
            self.pooled(192);
        }
    }

    /// The second halving, and modules whose branches fork.
    fn sevens(&mut self) {
        self.begin("Mixed_7a");
        self.branch(&[
            ("branch3x3_1", square(192, 1)),
            ("branch3x3_2", halving(320)),
        ]);
        self.branch(&[
            ("branch7x7x3_1", square(192, 1)),
            ("branch7x7x3_2", across(192, 7)),
            ("branch7x7x3_3", along(192, 7)),
            ("branch7x7x3_4", halving(192)),
        ]);
        self.halved();
        for name in ["Mixed_7b", "Mixed_7c"] {
            self.begin(name);
            self.branch(&[("branch1x1", square(320, 1))]);
            self.forked(
                &[("branch3x3_1", square(384, 1))],
                ["branch3x3_2a", "branch3x3_2b"],
            );
            let stem = [
                ("branch3x3dbl_1", square(448, 1)),
                ("branch3x3dbl_2", square(384, 3)),
            ];
            self.forked(&stem, ["branch3x3dbl_3a", "branch3x3dbl_3b"]);
            self.pooled(192);
        }
    }

    /// The next one begins: the last puts out its branches.
    fn begin(&mut self, name: &str) {
        self.end();
        name.clone_into(&mut self.name);
    }

    fn end(&mut self) {
        if !self.outputs.is_empty() {
            let outputs = std::mem::take(&mut self.outputs);
            self.layers
                .add("concat", &self.name, json!({ "from": outputs }));
            self.before.clone_from(&self.name);
        }
    }

    /// The output of layers one after the other.
    fn steps(&mut self, steps: &[Step]) -> String {
        let mut out = self.before.clone();
        for (step, fields) in steps {
            let mut fields = fields.clone();
            fields["from"] = json!(out);
            out = self.layers.basic(&format!("{}.{step}", self.name), fields);
        }
        out
    }

    fn branch(&mut self, steps: &[Step]) {
        let out = self.steps(steps);
        self.outputs.push(out);
    }

    /// A branch that ends in a row and a column of 3 beside each other.
    fn forked(&mut self, steps: &[Step], ends: [&str; 2]) {
        let stem = self.steps(steps);
        for (end, mut fields) in ends.into_iter().zip([across(384, 3), along(384, 3)]) {
            fields["from"] = json!(stem);
            let out = self.layers.basic(&format!("{}.{end}", self.name), fields);
            self.outputs.push(out);
        }
    }

    /// A branch of means.
    fn pooled(&mut self, filters: usize) {
        let name = format!("{}.pool", self.name);
        let pool = json!({"size": 3, "stride": 1, "padding": 1, "count_padding": true, "from": self.before});
        self.layers.add("avg_pool2d", &name, pool);
        let mut fields = square(filters, 1);
        fields["from"] = json!(name);
        let out = self
            .layers
            .basic(&format!("{}.branch_pool", self.name), fields);
        self.outputs.push(out);
    }

    /// A branch of the largest values.
    fn halved(&mut self) {
        let name = format!("{}.pool", self.name);
        let pool = json!({"size": 3, "stride": 2, "from": self.before});
        self.layers.add("max_pool2d", &name, pool);
        self.outputs.push(name);
    }
}

impl Layer for InceptionV3 {
    const WORD: &'static str = "inception_v3";
    const ABOUT: &'static str =
        "`[channels, height, width]` to `[classes]`, without `top` to the last feature maps";
    const ARCHITECTURE: bool = true;

    fn check(&self, path: &str, found: &mut Findings) {
        self.top.check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        self.layers()?.lower(at, only(inputs)?)
    }
}
