//! PURE: the order of a network's operations, forward and backward, and where their values lie.
//!
//! A program is made before the first step: which values share a slot follows from how long each is needed, so that
//! what a pass takes for a sample is known before there are samples. Gradients that come together in one place are
//! added in the order of the backward pass, which is that of the graph turned round.

use trainyard_common::network::{Graph, Node, Traits};

/// Where values lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Features,
    Slot(usize),
    /// Nobody reads them any more.
    Gone,
}

/// What becomes of the gradient of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nobody wants it.
    Nothing,
    /// It takes the place of the output's.
    InPlace,
    /// It is the first to come there.
    Fresh(usize),
    /// It is added to what is there, by way of a slot: that of the output's gradient for who works in place.
    Added { through: usize, to: usize },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) node: usize,
    pub(crate) inputs: Vec<Place>,
    pub(crate) output: usize,
    /// The output's slot holds the input.
    pub(crate) in_place: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backward {
    pub(crate) node: usize,
    pub(crate) inputs: Vec<Place>,
    pub(crate) output: Place,
    pub(crate) gradient: usize,
    pub(crate) targets: Vec<Target>,
}

/// A pass, or two of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Program {
    pub(crate) forward: Vec<Forward>,
    /// Empty for inference.
    pub(crate) backward: Vec<Backward>,
    pub(crate) output: Option<Place>,
    /// Where the loss leaves the gradient of the output; in inference a copy of the output.
    pub(crate) loss: usize,
    /// Values of a sample in each slot.
    pub(crate) slots: Vec<usize>,
}

impl Program {
    /// Forward alone: what has been read for the last time is overwritten.
    pub(crate) fn inference(graph: &Graph) -> Self {
        Planner::new(graph, false, &[]).plan()
    }

    /// Forward and backward, to the gradients of the parameters that are `trained`.
    pub(crate) fn training(graph: &Graph, trained: &[bool]) -> Self {
        Planner::new(graph, true, trained).plan()
    }

    /// Values that all slots together hold for a sample.
    pub(crate) fn values(&self) -> usize {
        self.slots.iter().sum()
    }
}

/// Values that lie somewhere from one moment to another.
#[derive(Debug, Clone, Copy)]
struct Storage {
    len: usize,
    born: usize,
    last: usize,
}

struct Planner<'a> {
    graph: &'a Graph,
    /// Nodes of the forward pass, in order. The moment of the k-th is k; the loss follows, then the backward pass.
    order: Vec<usize>,
    /// Per buffer: the buffer whose values it has, for what rests in inference.
    alias: Vec<usize>,
    /// Per buffer: whether its gradient leads to a trained parameter.
    wanted: Vec<bool>,
    storages: Vec<Storage>,
    /// Per buffer: where its values lie, and its gradient.
    values: Vec<Option<usize>>,
    gradients: Vec<Option<usize>>,
    /// Per buffer: the last moment at which its values are read.
    last_read: Vec<usize>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, training: bool, trained: &[bool]) -> Self {
        let count = graph.buffers.len();
        let mut planner = Self {
            graph,
            order: Vec::new(),
            alias: (0..count).collect(),
            wanted: vec![false; count],
            storages: Vec::new(),
            values: vec![None; count],
            gradients: vec![None; count],
            last_read: vec![0; count],
        };
        for (at, node) in graph.nodes.iter().enumerate() {
            if !training && node.op.traits().rests_in_inference {
                planner.alias[node.output] = planner.alias[node.inputs[0]];
                continue;
            }
            planner.order.push(at);
            // In inference nothing is trained.
            let is_trained = |at: usize| trained.get(at).is_some_and(|&trained| trained);
            let own = node.parameters.clone().any(is_trained);
            let leads = |&input: &usize| planner.wanted[input];
            planner.wanted[node.output] = own || node.inputs.iter().any(leads);
        }
        planner
    }

    fn node(&self, at: usize) -> &'a Node {
        &self.graph.nodes[at]
    }

    fn loss_moment(&self) -> usize {
        self.order.len()
    }

    /// Of the backward pass of the k-th node of the order.
    fn backward_moment(&self, k: usize) -> usize {
        2 * self.order.len() - k
    }

    fn plan(mut self) -> Program {
        self.find_last_reads();
        let mut program = Program::default();
        let forward: Vec<(usize, bool)> = (0..self.order.len())
            .map(|k| self.place_output(k))
            .collect();
        let output = self.alias[self.graph.output.buffer];
        let loss = self.store(self.graph.buffers[output], self.loss_moment());
        let mut backward = Vec::new();
        if self.wanted[output] {
            self.gradients[output] = Some(loss);
            for k in (0..self.order.len()).rev() {
                backward.extend(self.differentiate(k));
            }
        }
        let (slots, of) = self.share();
        let place = |buffer: usize| self.place(buffer, &of);
        program.output = Some(place(output));
        program.loss = of[loss];
        program.forward = self
            .order
            .iter()
            .zip(forward)
            .map(|(&at, (storage, in_place))| Forward {
                node: at,
                inputs: self.node(at).inputs.iter().map(|&b| place(b)).collect(),
                output: of[storage],
                in_place,
            })
            .collect();
        program.backward = backward;
        for step in &mut program.backward {
            let node = self.node(step.node);
            let traits = node.op.traits();
            step.gradient = of[step.gradient];
            step.inputs = node
                .inputs
                .iter()
                .map(|&b| {
                    if traits.reads_inputs {
                        place(b)
                    } else {
                        Place::Gone
                    }
                })
                .collect();
            step.output = match traits.reads_output {
                true => place(node.output),
                false => Place::Gone,
            };
            for target in &mut step.targets {
                *target = match *target {
                    Target::Fresh(to) => Target::Fresh(of[to]),
                    Target::Added { through, to } => Target::Added {
                        through: of[through],
                        to: of[to],
                    },
                    other => other,
                };
            }
        }
        program.slots = slots;
        program
    }

    fn place(&self, buffer: usize, of: &[usize]) -> Place {
        match self.alias[buffer] {
            0 => Place::Features,
            buffer => self.values[buffer].map_or(Place::Gone, |storage| Place::Slot(of[storage])),
        }
    }

    /// Every moment at which a buffer is read counts: by the operations after it, by their backward passes and that of
    /// the one which wrote it, and by the loss.
    fn find_last_reads(&mut self) {
        for k in 0..self.order.len() {
            let node = self.node(self.order[k]);
            let traits = node.op.traits();
            let back = self.backward_moment(k);
            let goes_back = self.wanted[node.output];
            for &input in &node.inputs {
                let moment = if goes_back && traits.reads_inputs {
                    back
                } else {
                    k
                };
                self.read_at(input, moment);
            }
            if goes_back && traits.reads_output {
                self.read_at(node.output, back);
            }
        }
        self.read_at(self.graph.output.buffer, self.loss_moment());
    }

    fn read_at(&mut self, buffer: usize, moment: usize) {
        let last = &mut self.last_read[self.alias[buffer]];
        *last = (*last).max(moment);
    }

    fn store(&mut self, len: usize, moment: usize) -> usize {
        self.storages.push(Storage {
            len,
            born: moment,
            last: moment,
        });
        self.storages.len() - 1
    }

    /// Where the output of the k-th node lies, and whether it takes the input's place.
    fn place_output(&mut self, k: usize) -> (usize, bool) {
        let node = self.node(self.order[k]);
        let input = self.alias[node.inputs[0]];
        let over = self.values[input].filter(|_| {
            node.op.traits().in_place && node.inputs.len() == 1 && self.last_read[input] == k
        });
        let storage = over.unwrap_or_else(|| self.store(self.graph.buffers[node.output], k));
        let last = &mut self.storages[storage].last;
        *last = (*last).max(self.last_read[node.output]).max(k);
        self.values[node.output] = Some(storage);
        (storage, over.is_some())
    }

    /// The backward pass of the k-th node, in storages.
    fn differentiate(&mut self, k: usize) -> Option<Backward> {
        let at = self.order[k];
        let node = self.node(at);
        if !self.wanted[node.output] {
            return None;
        }
        let gradient = self.gradients[node.output]?;
        let moment = self.backward_moment(k);
        let traits = node.op.traits();
        let mut targets = Vec::with_capacity(node.inputs.len());
        for (position, &input) in node.inputs.iter().enumerate() {
            targets.push(self.target(input, position, gradient, moment, traits));
        }
        self.until(gradient, moment);
        Some(Backward {
            node: at,
            inputs: Vec::new(),
            output: Place::Gone,
            gradient,
            targets,
        })
    }

    fn target(
        &mut self,
        input: usize,
        position: usize,
        gradient: usize,
        moment: usize,
        traits: Traits,
    ) -> Target {
        if !self.wanted[input] {
            return Target::Nothing;
        }
        let in_place = position == 0 && traits.gradient_in_place;
        match self.gradients[input] {
            None if in_place => {
                self.gradients[input] = Some(gradient);
                Target::InPlace
            }
            None => {
                let own = self.store(self.graph.buffers[input], moment);
                self.gradients[input] = Some(own);
                Target::Fresh(own)
            }
            Some(to) => {
                self.until(to, moment);
                let through = match in_place {
                    true => gradient,
                    false => self.store(self.graph.buffers[input], moment),
                };
                Target::Added { through, to }
            }
        }
    }

    fn until(&mut self, storage: usize, moment: usize) {
        let last = &mut self.storages[storage].last;
        *last = (*last).max(moment);
    }

    /// Slots for all storages: at each birth the smallest free slot that is large enough, otherwise the largest, which
    /// grows. (values of a sample in each slot, the slot of each storage)
    fn share(&self) -> (Vec<usize>, Vec<usize>) {
        let mut by_birth: Vec<usize> = (0..self.storages.len()).collect();
        by_birth.sort_by_key(|&storage| self.storages[storage].born);
        let mut slots: Vec<(usize, usize)> = Vec::new();
        let mut of = vec![0; self.storages.len()];
        for storage in by_birth {
            let Storage { len, born, last } = self.storages[storage];
            let free = slots
                .iter()
                .enumerate()
                .filter(|(_, (_, taken_until))| *taken_until < born)
                .min_by_key(|(_, (size, _))| match *size >= len {
                    true => (0, *size),
                    false => (1, usize::MAX - *size),
                })
                .map(|(slot, _)| slot);
            let slot = free.unwrap_or_else(|| {
                slots.push((0, 0));
                slots.len() - 1
            });
            slots[slot].0 = slots[slot].0.max(len);
            slots[slot].1 = last;
            of[storage] = slot;
        }
        (slots.into_iter().map(|(size, _)| size).collect(), of)
    }
}

#[cfg(test)]
mod tests;
