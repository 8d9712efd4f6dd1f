//! Programs of random graphs, followed step by step: whoever reads a slot must find there what it expects.

use std::collections::HashMap;

use serde_json::{Value, json};
use trainyard_common::network::{Graph, ModelSpec};
use trainyard_common::rng::Key;

use super::{Backward, Place, Program, Target};

/// What lies in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Value(usize),
    Gradient(usize),
    Garbage,
}

/// Layers of four features that read what stands before them at random, and a last one that reads what nobody has.
fn random_model(key: Key) -> ModelSpec {
    let pick = |at: u64, below: u64| key.bits(at) % below;
    let count = 3 + pick(0, 12);
    let mut unread: Vec<String> = Vec::new();
    let mut layers: Vec<Value> = Vec::new();
    for index in 0..count {
        let draw = |at: u64, below: u64| pick(1 + index * 16 + at, below);
        let any = |at: u64| match draw(at, index + 1) {
            0 => "input".to_owned(),
            before => format!("l{}", before - 1),
        };
        let from: Vec<String> = match draw(0, 9) {
            0..6 => vec![any(1)],
            _ => vec![any(1), any(2), any(3)],
        };
        let word = match (from.len(), draw(4, 8)) {
            (1, 0..3) => json!({"dense": {"units": 4}}),
            (1, 3) => json!({"activation": {"function": "tanh"}}),
            (1, 4) => json!({"activation": {"function": "swish"}}),
            (1, 5) => json!({"dropout": {"rate": 0.5}}),
            (1, 6) => json!({"batch_norm": {}}),
            (1, _) => json!({"dense": {"units": 4, "activation": "relu"}}),
            (_, 0..3) => json!({"add": {}}),
            (_, 3) => json!({"average": {}}),
            (_, 4) => json!({"maximum": {}}),
            (_, _) => json!({"multiply": {}}),
        };
        unread.retain(|name| !from.contains(name));
        unread.push(format!("l{index}"));
        layers.push(with(word, &format!("l{index}"), &from));
    }
    let last = match &unread[..] {
        [_] => with(json!({"dense": {"units": 2}}), "end", &unread),
        _ => with(json!({"concat": {}}), "end", &unread),
    };
    layers.push(last);
    serde_json::from_value(json!({ "layers": layers })).unwrap()
}

fn with(mut layer: Value, name: &str, from: &[String]) -> Value {
    let fields = layer.as_object_mut().unwrap().values_mut().next().unwrap();
    fields["name"] = json!(name);
    fields["from"] = json!(from);
    layer
}

/// Follows a program; `skipped` nodes put out what they were given.
struct Follower<'a> {
    graph: &'a Graph,
    slots: Vec<Content>,
    alias: Vec<usize>,
    /// Per buffer: parts that have come to its gradient.
    parts: HashMap<usize, usize>,
}

impl Follower<'_> {
    fn expect(&self, place: Place, buffer: usize, who: &str) {
        match (place, self.alias[buffer]) {
            (Place::Features, 0) => {}
            (Place::Slot(slot), buffer) => {
                assert_eq!(self.slots[slot], Content::Value(buffer), "{who}");
            }
            (place, buffer) => panic!("{who}: buffer {buffer} at {place:?}"),
        }
    }

    fn forward(&mut self, program: &Program, skips: bool) {
        for step in &program.forward {
            let node = &self.graph.nodes[step.node];
            let who = format!("forward {}", step.node);
            for (&place, &input) in step.inputs.iter().zip(&node.inputs) {
                self.expect(place, input, &who);
                let own = place == Place::Slot(step.output);
                assert_eq!(own, step.in_place, "{who}: an input where the output goes");
            }
            self.slots[step.output] = Content::Value(node.output);
        }
        assert_eq!(
            program.forward.len() + usize::from(skips) * self.skipped(),
            self.graph.nodes.len()
        );
        self.expect(program.output.unwrap(), self.graph.output.buffer, "output");
    }

    fn skipped(&self) -> usize {
        let nodes = self.graph.nodes.iter();
        nodes
            .filter(|node| node.op.traits().rests_in_inference)
            .count()
    }

    fn backward(&mut self, step: &Backward, program: &Program) {
        let node = &self.graph.nodes[step.node];
        let (who, traits) = (format!("backward {}", step.node), node.op.traits());
        assert_eq!(
            self.slots[step.gradient],
            Content::Gradient(node.output),
            "{who}"
        );
        assert_eq!(
            self.parts[&node.output],
            self.expected_parts(node.output, program),
            "{who}: parts of the gradient"
        );
        if traits.reads_inputs {
            for (&place, &input) in step.inputs.iter().zip(&node.inputs) {
                self.expect(place, input, &who);
            }
        }
        if traits.reads_output {
            self.expect(step.output, node.output, &who);
        }
        let mut becomes = Content::Garbage;
        for (&target, &input) in step.targets.iter().zip(&node.inputs) {
            match target {
                Target::Nothing => continue,
                Target::InPlace => becomes = Content::Gradient(input),
                Target::Fresh(slot) => {
                    assert_ne!(slot, step.gradient, "{who}");
                    self.slots[slot] = Content::Gradient(input);
                }
                Target::Added { through, to } => {
                    assert_ne!(through, to, "{who}");
                    let already = becomes == Content::Gradient(input) && to == step.gradient;
                    assert!(
                        already || self.slots[to] == Content::Gradient(input),
                        "{who}"
                    );
                    if through != step.gradient {
                        self.slots[through] = Content::Garbage;
                    }
                }
            }
            *self.parts.entry(input).or_default() += 1;
        }
        self.slots[step.gradient] = becomes;
    }

    /// From the loss, and from each place where an operation that has a backward pass reads the buffer.
    fn expected_parts(&self, buffer: usize, program: &Program) -> usize {
        let reads = program
            .backward
            .iter()
            .flat_map(|step| &self.graph.nodes[step.node].inputs);
        reads.filter(|&&input| input == buffer).count()
            + usize::from(self.graph.output.buffer == buffer)
    }
}

#[test]
fn who_reads_a_slot_finds_what_was_put_there() {
    let mut shared = 0;
    for seed in 0..400 {
        let graph = random_model(Key::new(seed)).graph(&[4]).unwrap();
        let count = graph.buffers.len();
        let program = Program::training(&graph, &vec![true; graph.parameters.len()]);
        let mut follower = Follower {
            graph: &graph,
            slots: vec![Content::Garbage; program.slots.len()],
            alias: (0..count).collect(),
            parts: HashMap::new(),
        };
        follower.forward(&program, false);
        follower.slots[program.loss] = Content::Gradient(graph.output.buffer);
        follower.parts.insert(graph.output.buffer, 1);
        for step in &program.backward {
            follower.backward(step, &program);
        }
        let trained = graph
            .nodes
            .iter()
            .filter(|node| !node.parameters.is_empty());
        for node in trained {
            let at = graph.writer(node.output).unwrap();
            assert!(
                program.backward.iter().any(|step| step.node == at),
                "seed {seed}"
            );
        }
        shared += usize::from(program.slots.len() < 2 * count);

        let inference = Program::inference(&graph);
        assert!(inference.values() <= program.values(), "seed {seed}");
        let mut alias: Vec<usize> = (0..count).collect();
        for node in &graph.nodes {
            if node.op.traits().rests_in_inference {
                alias[node.output] = alias[node.inputs[0]];
            }
        }
        let mut follower = Follower {
            graph: &graph,
            slots: vec![Content::Garbage; inference.slots.len()],
            alias,
            parts: HashMap::new(),
        };
        follower.forward(&inference, true);
    }
    assert!(shared > 300, "{shared} of 400 programs share slots");
}

#[test]
fn inference_of_a_deep_network_holds_two_layers() {
    let layers: Vec<Value> = (0..50)
        .map(|_| json!({"dense": {"units": 8, "activation": "relu"}}))
        .collect();
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers })).unwrap();
    let graph = spec.graph(&[8]).unwrap();
    // One that is read and one that is written; the loss's copy takes the place of the first.
    assert_eq!(Program::inference(&graph).values(), 2 * 8);
    let all = vec![true; graph.parameters.len()];
    assert!(Program::training(&graph, &all).values() >= 50 * 8);
}

#[test]
fn what_is_not_trained_has_no_backward_pass() {
    let spec: ModelSpec = serde_json::from_value(json!({"layers": [
        {"dense": {"units": 8, "activation": "relu"}}, {"dense": {"units": 8}}, {"dense": {"units": 2}},
    ]}))
    .unwrap();
    let graph = spec.graph(&[8]).unwrap();
    let program = Program::training(&graph, &[false, false, false, false, true, true]);
    assert_eq!(program.backward.len(), 1);
    assert_eq!(program.backward[0].targets, [Target::Nothing]);
    // Of the layers before nothing is kept but what the last one reads.
    assert!(program.values() < Program::training(&graph, &[true; 6]).values());
    assert!(Program::training(&graph, &[false; 6]).backward.is_empty());
}
