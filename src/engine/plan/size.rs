//! How much memory a plan will take while it runs, before any of it is there.

use super::places::Coded;
use super::{Place, Plan};
use crate::engine::kernels::{PANEL, STEP};
use crate::engine::lower::{Attention, Graph, NodeId, Op, View};
use crate::engine::weights::Weights;

impl Plan {
    /// Memory for all its buffers, bytes: what is bounded.
    pub(in crate::engine) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The buffers and what a run has beside them: heads of attention, copies of inputs, the result.
    pub(in crate::engine) fn bytes_running(&self) -> usize {
        let inputs = self.graph.nodes.iter().filter(|node| matches!(node.op, Op::Input(_)));
        let inputs: usize = inputs.map(|node| node.len()).sum();
        let outputs: usize = self.graph.outputs.iter().map(View::len).sum();
        self.bytes_at_work() + (2 * inputs + outputs) * size_of::<f32>()
    }

    /// Memory that its weights take beside it where they are streamed, bytes.
    pub(in crate::engine) fn staged(&self, weights: &Weights) -> usize {
        weights.staged(self.weights_of(&self.steps))
    }

    /// The same without inputs and results: they are the caller's.
    pub(in crate::engine) fn bytes_at_work(&self) -> usize {
        let nodes = &self.graph.nodes;
        let attention = nodes.iter().filter_map(|node| match &node.op {
            Op::Attention(attention) => Some(head_bytes(attention)),
            _ => None,
        });
        // What tract makes is there until the next run.
        let foreign = nodes.iter().zip(&self.places).filter_map(|(node, place)| match (&node.op, place) {
            (Op::Foreign(..), Place::Tensor(_)) => Some(node.len() * node.datum_type.size_of()),
            _ => None,
        });
        self.bytes + attention.max().unwrap_or(0) + foreign.sum::<usize>()
    }
}

/// Keys and values in 8 bits, in whole panels, with a scale and a sum a token.
fn head_bytes(attention: &Attention) -> usize {
    let bytes = |view: &View| {
        let shape = view.shape();
        let [batch, tokens, depth] = shape[shape.len() - 3..] else { return 0 };
        let padded = tokens.next_multiple_of(2 * PANEL) * depth.next_multiple_of(2 * PANEL);
        batch * (padded + 2 * tokens * size_of::<f32>())
    };
    bytes(&attention.key) + bytes(&attention.value)
}

/// Bytes of a node's codes: whole steps of every row, its scale and its offset.
pub(super) fn code_bytes(graph: &Graph, id: NodeId, coded: &[Coded]) -> usize {
    debug_assert!(coded[id] != Coded::No);
    let rows = graph.nodes.iter().find_map(|node| match &node.op {
        Op::Gemm(gemm) if gemm.input == id => Some(gemm.geometry.input_rows()),
        _ => None,
    });
    let rows = rows.unwrap_or(1).max(1);
    let width = (graph.nodes[id].len() / rows).next_multiple_of(STEP);
    (rows + 1) * (width + 2 * size_of::<f32>())
}
