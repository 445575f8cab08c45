//! A lowered graph made ready to run: which buffer each node fills, which of them share memory, what need not run
//! again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tract_onnx::prelude::*;

use super::component::KindTime;
use super::kernels::attention::Head;
use super::kernels::codes::Codes;
use super::kernels::finish::Epilogue;
use super::kernels::gemm::{FloatProducts, IntProducts, PAIR, run as gemm};
use super::lower::{Gemm, Graph, Node, NodeId, Op};
use super::ops::Machine;
use super::ops::attention::{Inputs, attention};
use super::ops::copy::copy;
use super::ops::elementwise::{binary, map};
use super::ops::encode::encode;
use super::ops::norm::{Target, norm};
use super::slots::{Life, share};
use super::weights::{Packed, WeightId, Weights};

/// Where the result of a node is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nobody reads it.
    None,
    Floats(usize),
    /// Values that tract made, or that are there from the beginning.
    Tensor(usize),
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Code the rows of a node for the layers that read them.
    Encode(NodeId),
    Node(NodeId),
}

/// A graph, its memory, and what it remembers from the last run.
pub(super) struct Plan {
    machine: Machine,
    graph: Graph,
    steps: Vec<Step>,
    /// For each node the graph inputs it depends on, a bit each.
    depends: Vec<u64>,
    places: Vec<Place>,
    code_places: Vec<Option<usize>>,
    floats: Vec<Vec<f32>>,
    codes: Vec<Codes>,
    tensors: Vec<Option<TValue>>,
    /// Memory for keys and values of attention heads.
    heads: Vec<Head>,
    last_inputs: Vec<Option<Tensor>>,
    /// Time by kind of operation, while somebody measures.
    times: Option<Vec<KindTime>>,
}

impl Plan {
    pub(super) fn new(mut graph: Graph, weights: &Weights, machine: Machine) -> anyhow::Result<Plan> {
        for node in &mut graph.nodes {
            if let Op::Gemm(gemm) = &mut node.op
                && !gemm.bias.is_empty()
            {
                gemm.bias.resize(gemm.channels.next_multiple_of(PAIR), 0.0); // whole pairs of panels for the kernels
            }
        }
        let uses = graph.uses();
        let alive = |id: NodeId| uses[id] > 0;
        let mut depends = vec![0_u64; graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            depends[id] = match node.op {
                Op::Input(at) => 1 << at.min(63),
                _ => node.op.reads().into_iter().fold(0, |mask, read| mask | depends[read]),
            };
        }
        let coded = coded(&graph, weights, &uses);
        let mut steps = Vec::new();
        for (id, node) in graph.nodes.iter().enumerate().filter(|(id, _)| alive(*id)) {
            if !matches!(node.op, Op::Constant(_) | Op::Tensor(_) | Op::Weight(_) | Op::Input(_)) {
                steps.push(Step::Node(id));
            }
            if coded[id] == Coded::Beside {
                steps.push(Step::Encode(id));
            }
        }
        let kept = |id: NodeId| is_kept(depends[id]);
        let lives = |of: &dyn Fn(NodeId) -> bool| lives(&graph, &steps, of, &kept);
        let in_floats = |id: NodeId| {
            let node = &graph.nodes[id];
            let constant = matches!(node.op, Op::Constant(_) | Op::Tensor(_) | Op::Weight(_));
            alive(id) && !constant && coded[id] != Coded::Instead && node.datum_type == f32::datum_type()
        };
        let (places, floats) = share(&lives(&in_floats), |id| graph.nodes[id].len());
        let (code_places, codes) = share(&lives(&|id| coded[id] != Coded::No), |id| graph.nodes[id].len());
        for len in &floats {
            // Zeroed memory is not touched until it is used: what is not there would end the process, so ask first.
            let asked = Vec::<f32>::new().try_reserve_exact(*len);
            asked.with_context(|| format!("there is no memory for {len} numbers at once"))?;
        }
        let mut tensors = Vec::new();
        let places = places.into_iter().enumerate().map(|(id, slot)| match slot {
            Some(slot) => Place::Floats(slot),
            None if alive(id) && coded[id] != Coded::Instead => {
                tensors.push(constant(&graph.nodes[id].op));
                Place::Tensor(tensors.len() - 1)
            }
            None => Place::None,
        });
        let places = places.collect();
        Ok(Plan {
            depends,
            places,
            code_places,
            floats: floats.into_iter().map(|len| vec![0.0; len]).collect(),
            codes: codes.into_iter().map(|_| Codes::default()).collect(),
            tensors,
            heads: Vec::new(),
            last_inputs: Vec::new(),
            times: None,
            machine,
            graph,
            steps,
        })
    }

    /// Runs the graph and returns the values of output `output` and its shape.
    pub(super) fn run(
        &mut self,
        weights: &mut Weights,
        inputs: Vec<Tensor>,
        output: usize,
    ) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
        let changed = self.changed(&inputs);
        self.fill_inputs(&inputs)?;
        let first_run = self.last_inputs.is_empty();
        // Forgotten until all of it has run: a step that fails leaves nothing to rely on.
        self.last_inputs.clear();
        let machine = self.machine.clone();
        let depends = |step: &Step| match step {
            Step::Node(id) | Step::Encode(id) => self.depends[*id],
        };
        let runs = |step: &Step| first_run || !is_kept(depends(step)) || depends(step) & changed != 0;
        let steps: Vec<Step> = self.steps.iter().copied().filter(runs).collect();
        weights.expect(steps.iter().filter_map(|step| self.weight(*step)));
        machine.pool.enter(|| {
            for step in steps {
                let (Step::Node(id) | Step::Encode(id)) = step;
                let started = Instant::now();
                let node = &self.graph.nodes[id];
                let context = || format!("node '{}' ({})", node.name, node.op.kind());
                let name = context();
                match step {
                    Step::Encode(id) => self.encode(id),
                    Step::Node(id) => self.node(id, weights).with_context(|| name)?,
                }
                self.measure(step, started.elapsed());
            }
            anyhow::Ok(())
        })?;
        self.last_inputs = inputs.into_iter().map(Some).collect();
        let view = &self.graph.outputs[output];
        Ok((view.shape(), self.values(view.node).to_vec()))
    }

    /// The weight that a step reads.
    fn weight(&self, step: Step) -> Option<WeightId> {
        let Step::Node(id) = step else {
            return None;
        };
        match &self.graph.nodes[id].op {
            Op::Gemm(gemm) => Some(gemm.weight),
            _ => None,
        }
    }

    /// Bits of the inputs that are not what they were.
    fn changed(&self, inputs: &[Tensor]) -> u64 {
        if self.last_inputs.len() != inputs.len() {
            return u64::MAX;
        }
        let differs = |(at, tensor): (usize, &Tensor)| match &self.last_inputs[at] {
            Some(last) if last == tensor => 0,
            _ => 1 << at.min(63),
        };
        inputs.iter().enumerate().map(differs).fold(0, |mask, bit| mask | bit)
    }

    fn fill_inputs(&mut self, inputs: &[Tensor]) -> anyhow::Result<()> {
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let Op::Input(at) = node.op else {
                continue;
            };
            let tensor = inputs.get(at).context("an input is missing")?;
            match self.places[id] {
                Place::Floats(slot) => {
                    let values = tensor.try_as_plain_ram()?;
                    self.floats[slot][..node.len()].copy_from_slice(values.as_slice::<f32>()?);
                }
                Place::Tensor(slot) => self.tensors[slot] = Some(tensor.clone().into_tvalue()),
                Place::None => {}
            }
        }
        Ok(())
    }

    /// The buffer of a node, as f32.
    fn values(&self, id: NodeId) -> &[f32] {
        let node = &self.graph.nodes[id];
        match (self.places[id], &node.op) {
            (_, Op::Constant(values)) => values,
            (Place::Floats(slot), _) => &self.floats[slot][..node.len()],
            (Place::Tensor(slot), _) => {
                let tensor = self.tensors[slot].as_ref().expect("a tensor is made before it is read");
                tensor.try_as_plain_ram().and_then(|ram| ram.as_slice::<f32>()).expect("an f32 tensor")
            }
            (Place::None, _) => unreachable!("'{}' has no buffer", node.name),
        }
    }

    fn encode(&mut self, id: NodeId) {
        let slot = self.code_places[id].expect("a node that is coded");
        let mut codes = std::mem::take(&mut self.codes[slot]);
        let width = self.coded_width(id);
        encode(&self.machine, self.values(id), width, &mut codes);
        self.codes[slot] = codes;
    }

    /// Inputs per row of the layers that read a node's codes.
    fn coded_width(&self, id: NodeId) -> usize {
        let reader = self.graph.nodes.iter().find_map(|node| match &node.op {
            Op::Gemm(gemm) if gemm.input == id => {
                Some(self.graph.nodes[id].len() / gemm.geometry.input_rows())
            }
            _ => None,
        });
        reader.expect("a node that is coded has a reader")
    }

    fn node(&mut self, id: NodeId, weights: &mut Weights) -> anyhow::Result<()> {
        if let Op::Foreign(op, _) = &self.graph.nodes[id].op {
            let op = op.clone();
            return self.foreign(id, op.as_ref());
        }
        if let (Op::Norm(op), Some(slot), Place::None) =
            (&self.graph.nodes[id].op, self.code_places[id], self.places[id])
        {
            let mut codes = std::mem::take(&mut self.codes[slot]);
            norm(&self.machine, op, self.values(op.input), Target::Codes(&mut codes));
            self.codes[slot] = codes;
            return Ok(());
        }
        let Place::Floats(slot) = self.places[id] else {
            return Ok(());
        };
        let mut buffer = std::mem::take(&mut self.floats[slot]);
        let mut heads = std::mem::take(&mut self.heads);
        let out = &mut buffer[..self.graph.nodes[id].len()];
        let mut outcome = Ok(());
        match &self.graph.nodes[id].op {
            Op::Gemm(op) => outcome = self.gemm(op, weights, out),
            Op::Norm(op) => norm(&self.machine, op, self.values(op.input), Target::Floats(out)),
            Op::Attention(op) => {
                let inputs = Inputs {
                    query: self.values(op.query.node),
                    key: self.values(op.key.node),
                    value: self.values(op.value.node),
                    mask: op.mask.as_ref().map(|mask| self.values(mask.node)),
                };
                attention(&self.machine, op, &inputs, &mut heads, out);
            }
            Op::Map(of, expr) => map(&self.machine, expr, self.values(*of), out),
            Op::Binary(two, a, b) => {
                binary(&self.machine, *two, self.values(a.node), self.values(b.node), out)
            }
            Op::Copy(parts) => {
                for (from, to) in parts {
                    copy(&self.machine, self.values(from.node), from, out, to);
                }
            }
            Op::Input(_) | Op::Constant(_) | Op::Tensor(_) | Op::Weight(_) | Op::Foreign(..) => {}
        }
        (self.floats[slot], self.heads) = (buffer, heads);
        outcome
    }

    fn gemm(&self, op: &Gemm, weights: &mut Weights, out: &mut [f32]) -> anyhow::Result<()> {
        let Machine { pool, unit } = &self.machine;
        let packed = weights.get(op.weight)?;
        let epilogue = Epilogue {
            scale: if let Packed::Int8(panels) = &packed { panels.scale } else { &[] },
            bias: &op.bias,
            row_bias: op.row_bias.map(|(node, every)| (self.values(node), every)),
            activation: op.activation,
            gated: op.gated,
            residual: op.residual.map(|node| self.values(node)),
        };
        match packed {
            Packed::Int8(panels) => {
                let codes = &self.codes[self.code_places[op.input].expect("an input that is coded")];
                let products = IntProducts { unit: *unit, codes, panels };
                gemm(pool, *unit, &op.geometry, &products, op.channels, &epilogue, out);
            }
            Packed::Float(panels) => {
                let products = FloatProducts { unit: *unit, values: self.values(op.input), panels };
                gemm(pool, *unit, &op.geometry, &products, op.channels, &epilogue, out);
            }
        }
        Ok(())
    }

    /// Has tract compute a node.
    fn foreign(&mut self, id: NodeId, op: &dyn TypedOp) -> anyhow::Result<()> {
        let Op::Foreign(_, views) = &self.graph.nodes[id].op else {
            return Ok(());
        };
        let mut inputs = TVec::new();
        for view in views {
            let is_constant = matches!(self.graph.nodes[view.node].op, Op::Constant(_));
            inputs.push(match self.places[view.node] {
                Place::Tensor(slot) => {
                    if is_constant && self.tensors[slot].is_none() {
                        let tensor = Tensor::from_shape(&view.shape(), self.values(view.node))?;
                        self.tensors[slot] = Some(tensor.into_tvalue());
                    }
                    self.tensors[slot].clone().context("a tensor that is not there yet")?
                }
                _ => Tensor::from_shape(&view.shape(), self.values(view.node))?.into_tvalue(),
            });
        }
        let value = op.eval_out_of_plan(inputs)?.context("tract cannot run it on its own")?.remove(0);
        match self.places[id] {
            Place::Floats(slot) => {
                let len = self.graph.nodes[id].len();
                let values = value.try_as_plain_ram()?;
                let values = values.as_slice::<f32>()?;
                ensure!(values.len() == len, "{} values instead of {len}", values.len());
                self.floats[slot][..len].copy_from_slice(values);
            }
            Place::Tensor(slot) => self.tensors[slot] = Some(value),
            Place::None => {}
        }
        Ok(())
    }

    fn measure(&mut self, step: Step, time: Duration) {
        let Some(times) = &mut self.times else {
            return;
        };
        let (kind, macs) = match step {
            Step::Encode(_) => ("encode", 0.0),
            Step::Node(id) => (self.graph.nodes[id].op.kind(), macs(&self.graph, id)),
        };
        let at = times.iter().position(|entry| entry.kind == kind).unwrap_or_else(|| {
            times.push(KindTime { kind, time: Duration::ZERO, count: 0, macs: 0.0 });
            times.len() - 1
        });
        times[at].time += time;
        times[at].count += 1;
        times[at].macs += macs;
    }

    /// From now on adds up time by kind of operation; returns what was added up so far.
    pub(super) fn take_times(&mut self) -> Vec<KindTime> {
        self.times.replace(Vec::new()).unwrap_or_default()
    }

    /// Operations by kind, and those that tract runs.
    pub(super) fn report(&self) -> (Vec<(&'static str, usize)>, Vec<String>) {
        let mut kinds: Vec<(&'static str, usize)> = Vec::new();
        let mut foreign = Vec::new();
        for step in &self.steps {
            let (kind, node) = match step {
                Step::Encode(_) => ("encode", None),
                Step::Node(id) => (self.graph.nodes[*id].op.kind(), Some(&self.graph.nodes[*id])),
            };
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
            if let Some(Node { name, op: Op::Foreign(op, _), .. }) = node {
                foreign.push(format!("{name} ({})", op.name()));
            }
        }
        (kinds, foreign)
    }
}

/// Whether what depends on these inputs keeps its results, and runs again only when its input changes: what depends on
/// one other than the first (the prompt, the time step), or on none. The first input changes at every call.
fn is_kept(depends: u64) -> bool {
    depends.count_ones() <= 1 && depends & 1 == 0
}

/// Multiplications that a node takes.
fn macs(graph: &Graph, id: NodeId) -> f64 {
    match &graph.nodes[id].op {
        Op::Gemm(gemm) => {
            let inputs = graph.nodes[gemm.input].len() / gemm.geometry.input_rows();
            (gemm.geometry.output_rows() * gemm.geometry.taps() * gemm.channels * inputs) as f64
        }
        Op::Attention(attention) => {
            let keys = attention.key.shape()[1];
            (attention.query.len() * keys + attention.output.len() * keys) as f64
        }
        _ => 0.0,
    }
}

fn constant(op: &Op) -> Option<TValue> {
    match op {
        Op::Tensor(tensor) | Op::Weight(tensor) => Some(Arc::clone(tensor).into_tvalue()),
        _ => None,
    }
}

/// How a node's rows reach integer kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coded {
    No,
    /// As codes and as floats.
    Beside,
    /// As codes only: a norm that nobody else reads.
    Instead,
}

fn coded(graph: &Graph, weights: &Weights, uses: &[usize]) -> Vec<Coded> {
    let mut readers = vec![0; graph.nodes.len()];
    let mut widths = vec![0; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        if let (Op::Gemm(gemm), true) = (&node.op, uses[id] > 0)
            && weights.is_int8(gemm.weight)
        {
            readers[gemm.input] += 1;
            widths[gemm.input] = graph.nodes[gemm.input].len() / gemm.geometry.input_rows();
        }
    }
    let coded = |(id, node): (NodeId, &Node)| match readers[id] {
        0 => Coded::No,
        count => match &node.op {
            Op::Norm(norm) if count == uses[id] && norm.channels == widths[id] => Coded::Instead,
            _ => Coded::Beside,
        },
    };
    graph.nodes.iter().enumerate().map(coded).collect()
}

/// From which step to which each buffer has to last, in the order of the nodes.
fn lives(
    graph: &Graph,
    steps: &[Step],
    of: &dyn Fn(NodeId) -> bool,
    kept: &dyn Fn(NodeId) -> bool,
) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> =
        (0..graph.nodes.len()).map(|id| of(id).then(|| Life { from: 0, to: 0, kept: kept(id) })).collect();
    let mut begun = vec![false; graph.nodes.len()];
    for (at, step) in steps.iter().enumerate() {
        let (Step::Node(id) | Step::Encode(id)) = *step;
        // Inputs are there from the start.
        let begins = !std::mem::replace(&mut begun[id], true) && !matches!(graph.nodes[id].op, Op::Input(_));
        let reads = if *step == Step::Node(id) { graph.nodes[id].op.reads() } else { Vec::new() };
        for touched in std::iter::once(id).chain(reads) {
            if let Some(life) = &mut lives[touched] {
                life.to = at;
                if touched == id && begins {
                    life.from = at;
                }
            }
        }
    }
    for output in &graph.outputs {
        if let Some(life) = &mut lives[output.node] {
            life.to = steps.len();
        }
    }
    lives
}
