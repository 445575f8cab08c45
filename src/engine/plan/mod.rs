//! A lowered graph made ready to run: which buffer each node fills, which of them share memory, what need not run
//! again.

mod bands;
mod foreign;
mod places;
mod reuse;
mod size;
mod times;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tract_onnx::prelude::*;

use super::component::KindTime;
use super::kernels::attention::Head;
use super::kernels::codes::Codes;
use super::kernels::finish::Epilogue;
use super::kernels::gemm::{FloatProducts, IntProducts, PAIR, run as gemm};
use super::lower::{Gemm, Graph, NodeId, Op};
use super::ops::Machine;
use super::ops::attention::{Inputs, attention};
use super::ops::copy::copy;
use super::ops::elementwise::{binary, map};
use super::ops::encode::encode;
use super::ops::norm::{ChannelMaps, Target, norm};
use super::slots::share;
use super::weights::{Packed, WeightId, Weights};
use crate::diffusion::ports::DeepFeatures;
use places::{Coded, coded, is_kept, lives};
use reuse::Reuse;

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
    /// Empty until the first run.
    floats: Vec<Vec<f32>>,
    /// How long each of `floats` is to be.
    lengths: Vec<usize>,
    codes: Vec<Codes>,
    tensors: Vec<Option<TValue>>,
    /// Memory for keys and values of attention heads.
    heads: Vec<Head>,
    last_inputs: Vec<Option<Tensor>>,
    reuse: Reuse,
    /// Norms that do not look at their input for statistics: it is a part of a picture only.
    imposed: HashMap<NodeId, ChannelMaps>,
    /// Memory for all buffers, bytes.
    bytes: usize,
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
        let (code_places, codes) = share(&lives(&|id| coded[id] != Coded::No), |id| match coded[id] {
            Coded::No => 0,
            _ => size::code_bytes(&graph, id, &coded),
        });
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
            bytes: floats.iter().sum::<usize>() * size_of::<f32>() + codes.iter().sum::<usize>(),
            imposed: HashMap::new(),
            depends,
            places,
            code_places,
            floats: vec![Vec::new(); floats.len()],
            lengths: floats,
            codes: codes.into_iter().map(|_| Codes::default()).collect(),
            tensors,
            heads: Vec::new(),
            last_inputs: Vec::new(),
            reuse: Reuse::default(),
            times: None,
            machine,
            graph,
            steps,
        })
    }

    /// Runs the graph, all of it or what `deep` leaves, and returns the shape and the values of each of `outputs`.
    pub(super) fn run(
        &mut self,
        weights: &mut Weights,
        inputs: Vec<Tensor>,
        outputs: &[usize],
        deep: DeepFeatures,
    ) -> anyhow::Result<Vec<(Vec<usize>, Vec<f32>)>> {
        let first_run = self.last_inputs.is_empty();
        if first_run {
            self.reuse.forget();
        }
        let changed = self.changed(&inputs) | self.reuse.unheard;
        self.fill_inputs(&inputs)?;
        // Forgotten until all of it has run: a step that fails leaves nothing to rely on.
        self.last_inputs.clear();
        let steps = self.due(first_run, changed);
        let all_ran = self.execute_around_cut(weights, steps, deep)?;
        self.reuse.unheard = if all_ran { 0 } else { changed };
        self.last_inputs = inputs.into_iter().map(Some).collect();
        let values = |output: &usize| {
            let view = &self.graph.outputs[*output];
            (view.shape(), self.values(view.node).to_vec())
        };
        Ok(outputs.iter().map(values).collect())
    }

    /// The steps of a run in which the inputs of the bits `changed` are not what they were.
    fn due(&self, first_run: bool, changed: u64) -> Vec<Step> {
        let runs = |step: &Step| {
            let (Step::Node(id) | Step::Encode(id)) = *step;
            first_run || !is_kept(self.depends[id]) || self.depends[id] & changed != 0
        };
        self.steps.iter().copied().filter(runs).collect()
    }

    fn execute(&mut self, weights: &mut Weights, steps: &[Step]) -> anyhow::Result<()> {
        let machine = self.machine.clone();
        weights.expect(self.weights_of(steps));
        machine.pool.enter(|| {
            for step in steps.iter().copied() {
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
        })
    }

    /// The weights that steps read, in their order.
    fn weights_of(&self, steps: &[Step]) -> impl Iterator<Item = WeightId> {
        steps.iter().filter_map(|step| self.weight(*step))
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

    /// Gives its memory back; the next run begins as the first one did.
    pub(super) fn rest(&mut self) {
        self.last_inputs.clear();
        self.reuse.forget();
        self.floats.iter_mut().for_each(|buffer| *buffer = Vec::new());
        self.codes.iter_mut().for_each(|codes| *codes = Codes::default());
        self.heads = Vec::new();
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

    /// Makes its buffers, unless they are there.
    fn wake(&mut self) {
        for (buffer, length) in self.floats.iter_mut().zip(&self.lengths) {
            if buffer.is_empty() {
                *buffer = vec![0.0; *length];
            }
        }
    }

    fn fill_inputs(&mut self, inputs: &[Tensor]) -> anyhow::Result<()> {
        self.wake();
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
            norm(&self.machine, op, self.imposed.get(&id), self.values(op.input), Target::Codes(&mut codes));
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
            Op::Norm(op) => {
                let imposed = self.imposed.get(&id);
                norm(&self.machine, op, imposed, self.values(op.input), Target::Floats(out));
            }
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
}

fn constant(op: &Op) -> Option<TValue> {
    match op {
        Op::Tensor(tensor) | Op::Weight(tensor) => Some(Arc::clone(tensor).into_tvalue()),
        _ => None,
    }
}
