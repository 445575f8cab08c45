//! From tract's typed graph to a graph of fused operations: `read` finds out what each node means, `fuse` takes
//! neighbours together, `settle` leaves what will run.

mod attention;
mod expr;
mod functions;
mod fuse;
mod gemm;
pub(super) mod ir;
mod norm;
mod probe;
mod read;
mod settle;
mod view;

use tract_onnx::prelude::*;

use super::weights::Weights;
pub(super) use expr::{Expr, Meaning, Two};
pub(super) use ir::{Attention, Gemm, Graph, Node, Norm, Op};
pub(super) use view::{Atom, NodeId, View};

/// Lowers a typed graph whose shapes are concrete; its weights are in `weights`.
pub(super) fn lower(model: &TypedModel, weights: &Weights) -> anyhow::Result<Graph> {
    let mut graph = read::read(model, weights)?;
    fuse::fuse(&mut graph);
    Ok(settle::settle(graph))
}
