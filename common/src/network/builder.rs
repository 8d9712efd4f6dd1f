//! Layers become operations, one after the other.

use std::collections::HashMap;

use super::error::{LayerError, MAX_ELEMENTS, Problem};
use super::graph::{Draw, Graph, Initial, Node, Parameter, Penalty, Row, Statistic, Tensor};
use super::ops::Op;
use super::shape::elements;
use super::words::Initializer;
use crate::text::near;

mod blocks;

/// What layers call the samples.
const INPUT: &str = "input";
/// Most layers of a network, those within layers counted as often as they stand there.
const MAX_LAYERS: usize = 4_000;
/// Most lists of layers within each other.
const MAX_DEPTH: usize = 16;

/// A parameter that an operation takes.
#[derive(Debug, Clone)]
pub struct NewParameter {
    /// Such as `kernel`.
    pub role: String,
    pub shape: Vec<usize>,
    pub initial: Initial,
}

impl NewParameter {
    pub fn constant(role: impl Into<String>, shape: Vec<usize>, value: f32) -> Self {
        Self {
            role: role.into(),
            shape,
            initial: Initial::Constant(value),
        }
    }

    pub fn drawn(
        role: impl Into<String>,
        shape: Vec<usize>,
        initializer: Initializer,
        (fan_in, fan_out): (usize, usize),
    ) -> Self {
        Self {
            role: role.into(),
            shape,
            initial: Initial::Drawn {
                initializer,
                fan_in,
                fan_out,
            },
        }
    }
}

/// What stands in a list of layers.
pub trait Lower {
    /// Its word in a document.
    fn word(&self) -> &'static str;

    /// What others call it.
    fn name(&self) -> Option<&str>;

    /// Names of the layers whose outputs it takes; none: the one before.
    fn from(&self) -> &[String];

    /// What its own parameters cost; those of layers within it are theirs.
    fn penalties(&self) -> Penalties {
        Penalties::default()
    }

    /// Adds its operations, and says what it puts out.
    ///
    /// # Errors
    /// Where it does not fit its inputs.
    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem>;
}

/// The layer at hand.
#[derive(Debug, Clone)]
struct Place {
    row: usize,
    /// Begins the names of its parameters.
    id: String,
    /// Position in the model's own list, without a name.
    position: Option<u64>,
    /// Operations of it that draw, so far.
    draws: u64,
    penalties: Penalties,
}

/// Roles of parameters that inputs are multiplied by.
const KERNELS: [&str; 2] = ["kernel", "embeddings"];

/// What a layer's parameters cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Penalties {
    pub kernel: Option<Penalty>,
    pub bias: Option<Penalty>,
}

impl Penalties {
    /// Of a parameter with this role: `recurrent_kernel` is a kernel, too.
    fn of(&self, role: &str) -> Option<Penalty> {
        match role {
            role if role.ends_with("bias") => self.bias,
            role if KERNELS.iter().any(|kernel| role.ends_with(kernel)) => self.kernel,
            _ => None,
        }
    }
}

/// Layers that see each other's names.
#[derive(Debug, Default)]
struct Scope {
    names: HashMap<String, Tensor>,
    /// Of the whole list, for the one who looks ahead.
    later: Vec<String>,
    /// As the builder's when it was opened: tensors of other scopes hold other numbers of steps.
    times: usize,
}

/// A graph in the making. A layer asks it for operations, each of which gets shapes that were checked.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    scopes: Vec<Scope>,
    place: Place,
    /// How many of the tensors at hand a sample has: the steps of the layers around, multiplied.
    times: usize,
    /// Names that parameters begin with.
    ids: HashMap<String, String>,
    /// The model is one network by name: its layers are named as if they were the model's own.
    bare: bool,
}

impl Builder {
    pub(super) fn new(sample_shape: &[usize]) -> Self {
        let input = Tensor {
            buffer: 0,
            shape: sample_shape.to_vec(),
        };
        Self {
            graph: Graph {
                sample_shape: sample_shape.to_vec(),
                buffers: vec![input.len()],
                nodes: Vec::new(),
                parameters: Vec::new(),
                statistics: Vec::new(),
                rows: Vec::new(),
                last_row: 0,
                output: input,
            },
            scopes: Vec::new(),
            place: Place {
                row: 0,
                id: String::new(),
                position: None,
                draws: 0,
                penalties: Penalties::default(),
            },
            times: 1,
            ids: HashMap::new(),
            bare: false,
        }
    }

    /// The network by name that is the whole model.
    pub(super) fn architecture(mut self, layer: &impl Lower) -> Result<Graph, Box<LayerError>> {
        self.bare = true;
        let layers = std::slice::from_ref(layer);
        self.model(layers, None).map_err(|mut error| {
            "model.architecture".clone_into(&mut error.path);
            error
        })
    }

    /// The whole model; `output` names the layer whose output is the network's.
    pub(super) fn model(
        mut self,
        layers: &[impl Lower],
        output: Option<&str>,
    ) -> Result<Graph, Box<LayerError>> {
        let input = self.graph.output.clone();
        let last = self.list(layers, input, "", "model.layers")?;
        self.graph.output = last;
        self.graph.last_row = self.row_of(layers.len() - 1);
        if let Some(name) = output {
            let found = layers.iter().position(|layer| layer.name() == Some(name));
            let Some(index) = found else {
                let names: Vec<&str> = layers.iter().filter_map(Lower::name).collect();
                return Err(Box::new(LayerError {
                    layer: name.to_owned(),
                    name: "model",
                    path: "model.outputs".to_owned(),
                    problem: Problem::Other(unknown(name, &names)),
                }));
            };
            self.graph.output = self.scopes[0].names[name].clone();
            self.graph.last_row = self.row_of(index);
        }
        match self.unused() {
            Some(error) => Err(error),
            None => Ok(self.graph),
        }
    }

    /// Position in `rows` of a layer of the model's own list.
    fn row_of(&self, index: usize) -> usize {
        let own = self.graph.rows.iter().enumerate();
        own.filter(|(_, row)| row.depth == 0)
            .nth(index)
            .map_or(0, |(at, _)| at)
    }

    /// A layer whose output nobody reads.
    fn unused(&self) -> Option<Box<LayerError>> {
        let graph = &self.graph;
        let mut read = vec![false; graph.buffers.len()];
        read[graph.output.buffer] = true;
        let inputs = graph.nodes.iter().flat_map(|node| &node.inputs);
        inputs.for_each(|&buffer| read[buffer] = true);
        let node = graph.nodes.iter().find(|node| !read[node.output])?;
        Some(self.error(
            node.row,
            Problem::other(
                "nothing reads what it puts out; name it in `from` of another layer or in `model.outputs`, or \
                 leave it away",
            ),
        ))
    }

    /// The layers of a list, each fed by the one before unless it says otherwise.
    fn list(
        &mut self,
        layers: &[impl Lower],
        input: Tensor,
        prefix: &str,
        path: &str,
    ) -> Result<Tensor, Box<LayerError>> {
        let names = layers
            .iter()
            .filter_map(|layer| layer.name().map(str::to_owned));
        self.scopes.push(Scope {
            names: HashMap::from([(INPUT.to_owned(), input.clone())]),
            later: names.collect(),
            times: self.times,
        });
        let around = self.place.clone();
        let mut before = input;
        for (index, layer) in layers.iter().enumerate() {
            before = self.layer(layer, index, &before, prefix, path)?;
            if let (Some(name), Some(scope)) = (layer.name(), self.scopes.last_mut()) {
                scope.names.insert(name.to_owned(), before.clone());
            }
        }
        self.place = around;
        if self.scopes.len() > 1 {
            self.scopes.pop();
        }
        Ok(before)
    }

    fn layer(
        &mut self,
        layer: &impl Lower,
        index: usize,
        before: &Tensor,
        prefix: &str,
        path: &str,
    ) -> Result<Tensor, Box<LayerError>> {
        let own = match layer.name() {
            Some(name) => name.to_owned(),
            None => index.to_string(),
        };
        let row = self.graph.rows.len();
        let path = format!("{path}[{index}]");
        self.graph.rows.push(Row {
            layer: format!("{prefix}{own}"),
            name: layer.word(),
            depth: self.scopes.len() - 1,
            path: path.clone(),
            inputs: Vec::new(),
            output_shape: Vec::new(),
            parameters: 0,
            non_trainable: 0,
        });
        self.place = Place {
            row,
            id: match layer.name() {
                Some(_) => format!("{prefix}{own}"),
                None => format!("{prefix}{own}.{}", layer.word()),
            },
            position: (prefix.is_empty() && layer.name().is_none()).then_some(index as u64),
            draws: 0,
            penalties: layer.penalties(),
        };
        let lowered = self
            .admit(row)
            .and_then(|()| self.inputs(layer, before))
            .and_then(|inputs| {
                self.graph.rows[row].inputs = inputs.iter().map(|i| i.shape.clone()).collect();
                layer.lower(self, &inputs)
            });
        let tensor = lowered.map_err(|problem| match problem {
            Problem::Within(error) => error,
            problem => self.error(row, problem),
        })?;
        self.graph.rows[row].output_shape.clone_from(&tensor.shape);
        Ok(tensor)
    }

    /// Whether the layer at hand has parameters of its own for what it says that they cost.
    pub(super) fn check_penalties(&self) -> Result<(), Problem> {
        let Penalties { kernel, bias } = self.place.penalties;
        let nodes = self.graph.nodes.iter();
        let own: Vec<&str> = nodes
            .filter(|node| node.row == self.place.row)
            .flat_map(|node| &self.graph.parameters[node.parameters.clone()])
            .map(|parameter| parameter.name.as_str())
            .collect();
        let has = |roles: &[&str]| {
            let ends = |name: &str| roles.iter().any(|role| name.ends_with(role));
            own.iter().any(|name| ends(name))
        };
        for (field, given, roles) in [
            ("kernel_regularizer", kernel.is_some(), &KERNELS[..]),
            ("bias_regularizer", bias.is_some(), &["bias"]),
        ] {
            if given && !has(roles) {
                return Err(Problem::Other(format!(
                    "`{field}` given, but this layer has no such parameters of its own; accepted where they are, \
                     on layers within it too"
                )));
            }
        }
        Ok(())
    }

    /// Whether one more layer may stand here, under its name.
    fn admit(&mut self, row: usize) -> Result<(), Problem> {
        if row >= MAX_LAYERS {
            return Err(Problem::Other(format!(
                "one more than {MAX_LAYERS} layers, which is the most that is accepted"
            )));
        }
        let path = self.graph.rows[row].path.clone();
        match self.ids.insert(self.place.id.clone(), path) {
            Some(other) => Err(Problem::Other(format!(
                "the name `{}` stands twice, at {other} too; accepted are names of one layer",
                self.place.id
            ))),
            None => Ok(()),
        }
    }

    fn inputs(&self, layer: &impl Lower, before: &Tensor) -> Result<Vec<Tensor>, Problem> {
        if layer.from().is_empty() {
            return Ok(vec![before.clone()]);
        }
        layer.from().iter().map(|name| self.named(name)).collect()
    }

    /// What a name means here: layers before in this list, then in those around it.
    fn named(&self, name: &str) -> Result<Tensor, Problem> {
        let visible = || self.scopes.iter().filter(|scope| scope.times == self.times);
        let mut scopes = visible().rev();
        if let Some(found) = scopes.find_map(|scope| scope.names.get(name)) {
            return Ok(found.clone());
        }
        if visible().any(|s| s.later.iter().any(|n| n == name)) {
            return Err(Problem::Other(format!(
                "`from` names `{name}`, which does not stand before it; a network has no circles"
            )));
        }
        let known: Vec<&str> = visible()
            .flat_map(|scope| scope.names.keys())
            .map(String::as_str)
            .collect();
        Err(Problem::Other(unknown(name, &known)))
    }

    fn error(&self, row: usize, problem: Problem) -> Box<LayerError> {
        let row = &self.graph.rows[row];
        Box::new(LayerError {
            layer: row.layer.clone(),
            name: row.name,
            path: row.path.clone(),
            problem,
        })
    }

    /// An operation over one or more tensors. Its parameters lie side by side.
    ///
    /// # Errors
    /// `TooLarge` for more values or parameters than an index reaches.
    pub fn apply(
        &mut self,
        op: Op,
        inputs: &[&Tensor],
        shape: Vec<usize>,
        parameters: Vec<NewParameter>,
    ) -> Result<Tensor, Problem> {
        let input = inputs
            .first()
            .map_or(Vec::new(), |input| input.shape.clone());
        let too_large = |what| Problem::TooLarge {
            what,
            input: input.clone(),
        };
        let len = elements(&shape)
            .and_then(|len| len.checked_mul(self.times))
            .filter(|&len| len <= MAX_ELEMENTS)
            .ok_or_else(|| too_large("output values for a sample"))?;
        if self.times > 1 && !op.statistics().is_empty() {
            return Err(Problem::other(
                "keeps statistics of a whole batch, which it cannot for each step; accepted there are layer_norm and \
                 group_norm",
            ));
        }
        let op = match op {
            Op::Concat { rows } => Op::Concat {
                rows: rows.saturating_mul(self.times),
            },
            op => op,
        };
        let row = self.place.row;
        let first = self.graph.parameters.len();
        for new in parameters {
            let own = elements(&new.shape)
                .map(|count| count + self.graph.rows[row].parameters)
                .filter(|&count| count <= MAX_ELEMENTS)
                .ok_or_else(|| too_large("parameters"))?;
            self.graph.rows[row].parameters = own;
            self.graph.parameters.push(Parameter {
                name: format!("{}.{}", self.place.id, new.role),
                shape: new.shape,
                initial: new.initial,
                penalty: self.place.penalties.of(&new.role),
            });
        }
        let start = self.graph.statistics_len();
        for (role, len, initial) in op.statistics() {
            let start = self.graph.statistics_len();
            self.graph.statistics.push(Statistic {
                name: format!("{}.{role}", self.place.id),
                range: start..start + len,
                initial,
            });
            self.graph.rows[row].non_trainable += len;
        }
        let output = self.graph.buffers.len();
        self.graph.buffers.push(len);
        let draw = self.draw(&op);
        self.graph.nodes.push(Node {
            op,
            row,
            draw,
            inputs: inputs.iter().map(|input| input.buffer).collect(),
            output,
            parameters: first..self.graph.parameters.len(),
            statistics: start..self.graph.statistics_len(),
        });
        Ok(Tensor {
            buffer: output,
            shape,
        })
    }

    fn draw(&mut self, op: &Op) -> Draw {
        let nth = self.place.draws;
        self.place.draws += u64::from(op.traits().draws);
        match self.place.position {
            Some(position) if nth == 0 => Draw::Position(position),
            _ => Draw::Name(self.place.id.clone(), nth),
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let mut known = known.to_vec();
    known.sort_unstable();
    let hint = match near(name, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("accepted are {}", known.join(", ")),
    };
    format!("there is no layer named `{name}` before it; {hint}")
}
