//! The graph between tract's and the plan: every node fills one buffer, and reads others through views.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::expr::{Expr, Two};
use super::view::{NodeId, View};
use crate::engine::kernels::float::Activation;
use crate::engine::kernels::gemm::Geometry;
use crate::engine::weights::WeightId;

/// A convolution or a linear layer, and what was found around it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Gemm {
    /// Rows of inputs, dense; `geometry` says which belong together.
    pub(in crate::engine) input: NodeId,
    pub(in crate::engine) geometry: Geometry,
    pub(in crate::engine) weight: WeightId,
    pub(in crate::engine) channels: usize,
    /// One per channel, or empty.
    pub(in crate::engine) bias: Vec<f32>,
    /// A node with rows of biases, and how many output rows share one.
    pub(in crate::engine) row_bias: Option<(NodeId, usize)>,
    pub(in crate::engine) activation: Activation,
    pub(in crate::engine) gated: bool,
    /// A node laid out as the output.
    pub(in crate::engine) residual: Option<NodeId>,
}

/// Groups of values brought to mean 0 and variance 1, then an affine map and an activation.
///
/// The buffer is `[batch][rows][channels]`; a group is a part of the channels over all rows of a batch entry. A layer
/// norm is one group with one row.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Norm {
    pub(in crate::engine) input: NodeId,
    pub(in crate::engine) batch: usize,
    pub(in crate::engine) rows: usize,
    pub(in crate::engine) channels: usize,
    pub(in crate::engine) groups: usize,
    pub(in crate::engine) epsilon: f32,
    pub(in crate::engine) gain: Vec<f32>,
    pub(in crate::engine) shift: Vec<f32>,
    pub(in crate::engine) activation: Activation,
}

/// softmax(scale * Q K^T + mask) V. Axes of the views: any number of batch axes, tokens, depth.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Attention {
    pub(in crate::engine) query: View,
    pub(in crate::engine) key: View,
    pub(in crate::engine) value: View,
    pub(in crate::engine) scale: f32,
    /// Axes: query tokens, key tokens.
    pub(in crate::engine) mask: Option<View>,
    /// Where the output goes in this node's buffer, with the axes of `query`, its depth that of `value`.
    pub(in crate::engine) output: View,
}

/// What a node does.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Op {
    /// A graph input, by position.
    Input(usize),
    Constant(Arc<Vec<f32>>),
    /// Anything that is not f32: shapes, tokens.
    Tensor(Arc<Tensor>),
    /// A weight that some foreign operation wants, in f32 and in its order.
    Weight(Arc<Tensor>),
    Gemm(Box<Gemm>),
    Norm(Box<Norm>),
    Attention(Box<Attention>),
    /// The expression of every element of a dense buffer.
    Map(NodeId, Expr),
    /// Two buffers of the same layout, element by element.
    Binary(Two, View, View),
    /// Elements of one or more views, written one after the other into parts of the buffer: source and destination.
    Copy(Vec<(View, View)>),
    /// What tract does on its own: inputs in row-major order.
    Foreign(Box<dyn TypedOp>, Vec<View>),
}

/// A node and the buffer that it fills.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Node {
    /// The name that the graph gives it, for messages.
    pub(in crate::engine) name: String,
    pub(in crate::engine) op: Op,
    /// The tensor in the graph's axes.
    pub(in crate::engine) view: View,
    pub(in crate::engine) datum_type: DatumType,
}

impl Node {
    /// Elements in the buffer.
    pub(in crate::engine) fn len(&self) -> usize {
        self.view.len()
    }
}

impl Op {
    /// The nodes that it reads.
    pub(in crate::engine) fn reads(&self) -> Vec<NodeId> {
        match self {
            Op::Input(_) | Op::Constant(_) | Op::Tensor(_) | Op::Weight(_) => Vec::new(),
            Op::Gemm(gemm) => {
                let extra = gemm.row_bias.map(|(node, _)| node).into_iter().chain(gemm.residual);
                std::iter::once(gemm.input).chain(extra).collect()
            }
            Op::Norm(norm) => vec![norm.input],
            Op::Attention(attention) => {
                let Attention { query, key, value, mask, .. } = &**attention;
                [query, key, value].into_iter().chain(mask).map(|view| view.node).collect()
            }
            Op::Map(node, _) => vec![*node],
            Op::Binary(_, a, b) => vec![a.node, b.node],
            Op::Copy(parts) => parts.iter().map(|(from, _)| from.node).collect(),
            Op::Foreign(_, inputs) => inputs.iter().map(|view| view.node).collect(),
        }
    }

    /// A word for tables and messages.
    pub(in crate::engine) fn kind(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Constant(_) | Op::Tensor(_) | Op::Weight(_) => "constant",
            Op::Gemm(gemm) if gemm.geometry.taps() > 1 => "convolution",
            Op::Gemm(_) => "linear",
            Op::Norm(_) => "norm",
            Op::Attention(_) => "attention",
            Op::Map(..) | Op::Binary(..) => "elementwise",
            Op::Copy(_) => "copy",
            Op::Foreign(..) => "tract",
        }
    }
}

/// Nodes in an order in which they can run, and the tensors that the graph returns.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Graph {
    pub(in crate::engine) nodes: Vec<Node>,
    pub(in crate::engine) outputs: Vec<View>,
}

impl Graph {
    /// Adds a node; its view is put on the node's own buffer.
    pub(super) fn add(&mut self, name: &str, op: Op, datum_type: DatumType, view: View) -> View {
        let view = view.on(self.nodes.len());
        self.nodes.push(Node { name: name.to_owned(), op, view: view.clone(), datum_type });
        view
    }

    /// The view itself if it is all of its buffer, each element once, else a copy of it that is.
    pub(super) fn dense(&mut self, view: &View) -> View {
        if view.is_dense(self.nodes[view.node].len()) {
            view.clone()
        } else {
            self.copied(view, view.compact())
        }
    }

    /// The view in a buffer laid out as `layout`, which has the same axes and is compact.
    pub(super) fn laid_out(&mut self, view: &View, layout: &View) -> View {
        let same = view.axes == layout.axes && view.is_dense(self.nodes[view.node].len());
        if same { view.clone() } else { self.copied(view, layout.clone()) }
    }

    fn copied(&mut self, view: &View, layout: View) -> View {
        let name = self.nodes[view.node].name.clone();
        let datum_type = self.nodes[view.node].datum_type;
        let to = layout.on(self.nodes.len());
        self.add(&name, Op::Copy(vec![(view.clone(), to.clone())]), datum_type, to)
    }

    /// How often each node is read, counting only nodes that the outputs need.
    pub(in crate::engine) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for output in &self.outputs {
            uses[output.node] += 1;
        }
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if uses[id] > 0 {
                for read in node.op.reads() {
                    uses[read] += 1;
                }
            }
        }
        uses
    }
}
