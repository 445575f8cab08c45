//! Takes what stands around a convolution, a linear layer or a norm into it.
//!
//! A node that only puts something on top of another becomes that other one with the thing on top; the other one,
//! which nobody reads then, is never computed.

use super::expr::{Expr, Meaning, Two};
use super::ir::{Gemm, Graph, Op};
use super::probe::places;
use super::view::{View, atoms};
use crate::engine::kernels::PANEL;
use crate::engine::kernels::float::Activation;

pub(super) fn fuse(graph: &mut Graph) {
    let mut uses = graph.uses();
    for id in 0..graph.nodes.len() {
        if uses[id] == 0 {
            continue;
        }
        let fused = match &graph.nodes[id].op {
            Op::Map(of, expr) => on_top(graph, &uses, *of, expr),
            Op::Binary(two, a, b) => {
                with(graph, &uses, *two, a, b).or_else(|| with(graph, &uses, *two, b, a))
            }
            _ => None,
        };
        let Some(op) = fused else {
            continue;
        };
        graph.nodes[id].op = op;
        uses = graph.uses();
    }
}

/// An activation of a norm or a layer that has none.
fn on_top(graph: &Graph, uses: &[usize], of: usize, expr: &Expr) -> Option<Op> {
    let Meaning::Activation(activation) = expr.meaning() else {
        return None;
    };
    if uses[of] != 1 {
        return None;
    }
    match &graph.nodes[of].op {
        Op::Norm(norm) if norm.activation == Activation::Identity => {
            let mut norm = norm.clone();
            norm.activation = activation;
            Some(Op::Norm(norm))
        }
        Op::Gemm(gemm) if is_linear(gemm) => {
            let mut gemm = gemm.clone();
            gemm.activation = activation;
            Some(Op::Gemm(gemm))
        }
        _ => None,
    }
}

/// Nothing but products and biases so far.
fn is_linear(gemm: &Gemm) -> bool {
    gemm.activation == Activation::Identity && !gemm.gated && gemm.residual.is_none()
}

/// `base two other`, where `base` is what everything is taken into.
fn with(graph: &Graph, uses: &[usize], two: Two, base: &View, other: &View) -> Option<Op> {
    let node = &graph.nodes[base.node];
    if let (Op::Gemm(gemm), Two::Mul) = (&node.op, two) {
        return gated(graph, uses, gemm, base, other);
    }
    if uses[base.node] != 1 || !base.is_dense(node.len()) {
        return None;
    }
    match (&node.op, two) {
        (Op::Norm(norm), Two::Mul | Two::Add) if norm.activation == Activation::Identity => {
            let vector = channel_vector(graph, base, other, norm.channels)?;
            let mut norm = norm.clone();
            for (channel, value) in vector.into_iter().enumerate() {
                if two == Two::Mul {
                    norm.gain[channel] *= value;
                    norm.shift[channel] *= value;
                } else {
                    norm.shift[channel] += value;
                }
            }
            Some(Op::Norm(norm))
        }
        (Op::Gemm(gemm), Two::Add) => {
            let mut gemm = gemm.clone();
            if is_linear(&gemm) && gemm.row_bias.is_none() {
                if let Some(vector) = channel_vector(graph, base, other, gemm.channels) {
                    gemm.bias.resize(gemm.channels, 0.0);
                    gemm.bias.iter_mut().zip(vector).for_each(|(bias, value)| *bias += value);
                    return Some(Op::Gemm(gemm));
                }
                if let Some(every) = row_bias(graph, &gemm, base, other) {
                    gemm.row_bias = Some((other.node, every));
                    return Some(Op::Gemm(gemm));
                }
            }
            let same_place = base.axes == other.axes && other.is_dense(graph.nodes[other.node].len());
            if gemm.residual.is_some() || !same_place {
                return None;
            }
            gemm.residual = Some(other.node);
            Some(Op::Gemm(gemm))
        }
        _ => None,
    }
}

/// GEGLU: the first half of a layer's channels times the activation of the second.
fn gated(graph: &Graph, uses: &[usize], gemm: &Gemm, base: &View, other: &View) -> Option<Op> {
    let Op::Map(of, expr) = &graph.nodes[other.node].op else {
        return None;
    };
    let Meaning::Activation(activation) = expr.meaning() else {
        return None;
    };
    let half = gemm.channels / 2;
    let rows = gemm.geometry.output_rows();
    let halves = base.offset == 0
        && other.offset == half
        && base.axes == other.axes
        && base.len() == rows * half
        && gemm.channels.is_multiple_of(2 * PANEL);
    let alone = *of == base.node && uses[base.node] == 2 && uses[other.node] == 1;
    // Which rows they are is the same for both; that all are there follows from the count.
    if !halves || !alone || !is_linear(gemm) || gemm.row_bias.is_some() {
        return None;
    }
    let mut gemm = gemm.clone();
    gemm.gated = true;
    gemm.activation = activation;
    Some(Op::Gemm(Box::new(gemm)))
}

/// A constant that depends on nothing but the channel, the innermost of `base`'s buffer.
fn channel_vector(graph: &Graph, base: &View, other: &View, channels: usize) -> Option<Vec<f32>> {
    let Op::Constant(values) = &graph.nodes[other.node].op else {
        return None;
    };
    let varies = |axis: &&usize| other.axes[**axis].iter().any(|atom| atom.stride != 0);
    let all: Vec<usize> = (0..base.axes.len()).collect();
    let varying: Vec<usize> = all.iter().filter(varies).copied().collect();
    let only = |view: &View| View {
        axes: varying.iter().map(|axis| view.axes[*axis].clone()).collect(),
        ..view.clone()
    };
    let (to, from) = (only(base), only(other));
    if to.len() != channels {
        return None;
    }
    let mut vector = vec![None; channels];
    for (to, from) in places(&to).into_iter().zip(places(&from)) {
        *vector.get_mut(to)? = Some(values[from]);
    }
    vector.into_iter().collect()
}

/// Rows of further biases, one for each picture of the batch: how many output rows share one.
fn row_bias(graph: &Graph, gemm: &Gemm, base: &View, other: &View) -> Option<usize> {
    let [height, width] = gemm.geometry.output;
    let (every, channels) = (height * width, gemm.channels);
    let expected = base.axes.iter().map(|axis| {
        atoms(axis.iter().map(|atom| {
            let stride = match atom.stride {
                stride if stride >= every * channels => stride / every,
                stride if stride < channels => stride,
                _ => 0,
            };
            super::view::Atom { size: atom.size, stride }
        }))
    });
    let all_there = graph.nodes[other.node].len() == gemm.geometry.batch * channels && other.offset == 0;
    (all_there && expected.eq(other.axes.iter().cloned())).then_some(every)
}
