//! Step caching: a call of a UNet whose deep levels are those of an earlier call.
//!
//! Ma et al. 2023, "DeepCache: Accelerating Diffusion Models for Free" (<https://arxiv.org/abs/2312.00858>): from step to
//! step the features that come up from the deep levels change little, so a step may run the outermost level alone. Where a
//! graph has its levels is seen in its skip connections: a concatenation of two tensors of which one is made from the
//! other. What comes up there is the cut; the nodes that reach the outputs without it are what a shallow call runs.

use std::collections::HashMap;

use super::times::macs;
use super::{Place, Plan, Step};
use crate::diffusion::ports::DeepFeatures;
use crate::engine::lower::{Graph, NodeId, Op};
use crate::engine::weights::Weights;

/// What is remembered of full calls, and which steps run without it.
#[derive(Default)]
pub(super) struct Reuse {
    /// Looked for when somebody first asks; inside nothing for a graph without skip connections.
    cut: Option<Option<Cut>>,
    /// Values of the cut, by the number of the call within a denoising step.
    features: HashMap<usize, Vec<f32>>,
    /// Bits of inputs that changed in shallow calls, which did not tell the deep nodes.
    pub(super) unheard: u64,
}

/// Where a graph is divided.
#[derive(Debug)]
struct Cut {
    /// The node that comes up from the deep levels.
    node: NodeId,
    /// Whether a shallow call runs a node.
    shallow: Vec<bool>,
}

impl Reuse {
    /// Forgets all features; their memory goes.
    pub(super) fn forget(&mut self) {
        (self.features, self.unheard) = (HashMap::new(), 0);
    }
}

impl Plan {
    /// Runs `steps`, or of them what `deep` leaves; says whether it was all of them.
    pub(super) fn execute_around_cut(
        &mut self,
        weights: &mut Weights,
        steps: Vec<Step>,
        deep: DeepFeatures,
    ) -> anyhow::Result<bool> {
        let (DeepFeatures::Keep(call) | DeepFeatures::Reuse(call)) = deep else {
            return self.execute(weights, &steps).map(|()| true);
        };
        let (graph, depends) = (&self.graph, &self.depends);
        let cut = self.reuse.cut.get_or_insert_with(|| outermost(graph, depends));
        let Some(Cut { node, shallow }) = cut else {
            return self.execute(weights, &steps).map(|()| true);
        };
        let node = *node;
        let at =
            steps.iter().position(|step| *step == Step::Node(node)).expect("a cut depends on the sample");
        let (below, above) = steps.split_at(at + 1);
        let kept = matches!(deep, DeepFeatures::Reuse(_)).then(|| self.reuse.features.get(&call)).flatten();
        let (Some(features), Place::Floats(slot)) = (kept, self.places[node]) else {
            self.execute(weights, below)?;
            let features = self.values(node).to_vec();
            self.reuse.features.insert(call, features);
            return self.execute(weights, above).map(|()| true);
        };
        let is_shallow = |step: &Step| {
            let (Step::Node(id) | Step::Encode(id)) = *step;
            shallow[id] && *step != Step::Node(node)
        };
        let [below, above]: [Vec<Step>; 2] =
            [below, above].map(|steps| steps.iter().copied().filter(is_shallow).collect());
        let features = features.clone();
        self.execute(weights, &below)?;
        self.floats[slot][..features.len()].copy_from_slice(&features);
        self.execute(weights, &above).map(|()| false)
    }
}

/// The cut that leaves the least to a shallow call.
fn outermost(graph: &Graph, depends: &[u64]) -> Option<Cut> {
    let joints = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Copy(parts) => joint(graph, parts.iter().map(|(from, _)| from.node), depends),
        _ => None,
    });
    let cost = |cut: &Cut| -> f64 {
        let runs = |id: &NodeId| cut.shallow[*id] && *id != cut.node;
        (0..graph.nodes.len()).filter(runs).map(|id| macs(graph, id)).sum()
    };
    let cuts = joints.map(|node| Cut { node, shallow: needed(graph, node) });
    cuts.min_by(|a, b| cost(a).total_cmp(&cost(b)))
}

/// Of two parts of a concatenation that the sample goes into, the one that is made from the other: what comes up beside
/// a skip connection.
fn joint(graph: &Graph, parts: impl Iterator<Item = NodeId>, depends: &[u64]) -> Option<NodeId> {
    let parts: Vec<NodeId> = parts.filter(|part| depends[*part] & 1 == 1).collect();
    let [first, second] = parts[..] else { return None };
    let (skip, deep) = (first.min(second), first.max(second));
    (skip != deep && sources(graph, &[deep], None)[skip]).then_some(deep)
}

/// The nodes that the outputs are made from without going through `cut`, and the cut itself.
fn needed(graph: &Graph, cut: NodeId) -> Vec<bool> {
    let outputs: Vec<NodeId> = graph.outputs.iter().map(|output| output.node).collect();
    sources(graph, &outputs, Some(cut))
}

/// `of` and all that they are made from; `end` counts, what that is made from does not.
fn sources(graph: &Graph, of: &[NodeId], end: Option<NodeId>) -> Vec<bool> {
    let mut reached = vec![false; graph.nodes.len()];
    of.iter().for_each(|id| reached[*id] = true);
    // Nodes read earlier ones only.
    for id in (0..graph.nodes.len()).rev() {
        if reached[id] && Some(id) != end {
            graph.nodes[id].op.reads().into_iter().for_each(|read| reached[read] = true);
        }
    }
    reached
}
