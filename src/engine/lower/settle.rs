//! The last pass: drops what nobody needs, and lays operands of pairs out alike.

use super::ir::{Attention, Gemm, Graph, Norm, Op};
use super::view::{NodeId, View};

pub(super) fn settle(graph: Graph) -> Graph {
    let uses = graph.uses();
    let mut settled = Graph::default();
    let mut numbers: Vec<NodeId> = vec![NodeId::MAX; graph.nodes.len()];
    for (id, node) in graph.nodes.into_iter().enumerate().filter(|(id, _)| uses[*id] > 0) {
        let mut op = renumbered(node.op, &numbers);
        if let Op::Binary(_, a, b) = &mut op {
            for side in [a, b] {
                *side = settled.laid_out(side, &node.view);
            }
        }
        let view = settled.add(&node.name, op, node.datum_type, node.view);
        numbers[id] = view.node;
    }
    settled.outputs = graph.outputs.into_iter().map(|view| moved(view, &numbers)).collect();
    settled
}

fn moved(view: View, numbers: &[NodeId]) -> View {
    let node = numbers[view.node];
    view.on(node)
}

/// The operation with the numbers that the nodes have now.
fn renumbered(op: Op, numbers: &[NodeId]) -> Op {
    let view = |view: View| moved(view, numbers);
    match op {
        Op::Input(_) | Op::Constant(_) | Op::Tensor(_) | Op::Weight(_) => op,
        Op::Gemm(gemm) => Op::Gemm(Box::new(Gemm {
            input: numbers[gemm.input],
            row_bias: gemm.row_bias.map(|(node, every)| (numbers[node], every)),
            residual: gemm.residual.map(|node| numbers[node]),
            ..*gemm
        })),
        Op::Norm(norm) => Op::Norm(Box::new(Norm { input: numbers[norm.input], ..*norm })),
        Op::Attention(attention) => Op::Attention(Box::new(Attention {
            query: view(attention.query),
            key: view(attention.key),
            value: view(attention.value),
            mask: attention.mask.map(view),
            ..*attention
        })),
        Op::Map(of, expr) => Op::Map(numbers[of], expr),
        Op::Binary(two, a, b) => Op::Binary(two, view(a), view(b)),
        Op::Copy(parts) => Op::Copy(parts.into_iter().map(|(from, to)| (view(from), to)).collect()),
        Op::Foreign(op, inputs) => Op::Foreign(op, inputs.into_iter().map(view).collect()),
    }
}
