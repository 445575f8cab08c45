//! Where results are kept, and how long: as floats, as codes, or both; which outlast a run.

use super::Step;
use crate::engine::lower::{Graph, Node, NodeId, Op};
use crate::engine::slots::Life;
use crate::engine::weights::Weights;

/// Whether what depends on these inputs keeps its results, and runs again only when its input changes: what depends on
/// one other than the first (the prompt, the time step), or on none. The first input changes at every call.
pub(super) fn is_kept(depends: u64) -> bool {
    depends.count_ones() <= 1 && depends & 1 == 0
}

/// How a node's rows reach integer kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coded {
    No,
    /// As codes and as floats.
    Beside,
    /// As codes only: a norm that nobody else reads.
    Instead,
}

pub(super) fn coded(graph: &Graph, weights: &Weights, uses: &[usize]) -> Vec<Coded> {
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
pub(super) fn lives(
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
