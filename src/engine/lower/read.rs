//! tract's typed graph, node by node, into ours: movements become views, functions of one tensor become
//! expressions, convolutions and products with weights become [`Gemm`]s, the rest stays with tract.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use tract_core::internal::{AxisOp, TypedNode};
use tract_core::ops::array::{MultiBroadcastTo, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::Conv;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;
use tract_onnx::prelude::*;

use super::ir::{Graph, Op};
use super::view::{Atom, View, atoms};
use super::{attention, gemm, norm, probe};
use crate::engine::coarse::{FilledOp, Standardize, WeightOp};
use crate::engine::weights::Weights;

/// Larger constants are not computed ahead: shapes, masks and embeddings of time steps are smaller.
const FOLDED_MAX: usize = 1 << 22;

/// What an outlet of tract's graph is here.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A tensor somewhere.
    View(View),
    /// A weight of the pack, by its name and in its own shape.
    Weight(String, Vec<usize>),
}

/// The graph in the making.
pub(super) struct Reader<'a> {
    pub(super) graph: Graph,
    pub(super) weights: &'a Weights,
    values: HashMap<OutletId, Value>,
}

/// Reads all of `model`, whose shapes are concrete.
pub(super) fn read(model: &TypedModel, weights: &Weights) -> anyhow::Result<Graph> {
    let mut reader = Reader { graph: Graph::default(), weights, values: HashMap::new() };
    for id in model.eval_order()? {
        let node = model.node(id);
        reader.node(model, node).with_context(|| format!("node '{}' ({})", node.name, node.op.name()))?;
    }
    for outlet in &model.outputs {
        let view = reader.view(*outlet)?;
        let shape = view.shape();
        // Callers take rows in the order of the axes.
        let layout = View::row_major(view.node, &shape);
        let output = reader.graph.laid_out(&view, &layout);
        reader.graph.outputs.push(output);
    }
    Ok(reader.graph)
}

impl Reader<'_> {
    fn node(&mut self, model: &TypedModel, node: &TypedNode) -> anyhow::Result<()> {
        let value = match self.value(model, node)? {
            Some(value) => value,
            None => self.foreign(model, node)?,
        };
        self.values.insert(OutletId::new(node.id, 0), value);
        Ok(())
    }

    /// The tensor at an outlet; a weight that somebody wants as a tensor becomes one.
    pub(super) fn view(&mut self, outlet: OutletId) -> anyhow::Result<View> {
        match self.values.get(&outlet).ok_or_else(|| anyhow!("output {} of a node", outlet.slot))? {
            Value::View(view) => Ok(view.clone()),
            Value::Weight(name, dims) => {
                let (name, dims) = (name.clone(), dims.clone());
                let values = self.weights.dense(&name)?;
                let tensor = Tensor::from_shape(&dims, &values)?.into_arc_tensor();
                let view = View::row_major(0, &dims);
                let view = self.graph.add(&name, Op::Weight(tensor), f32::datum_type(), view);
                self.values.insert(outlet, Value::View(view.clone()));
                Ok(view)
            }
        }
    }

    pub(super) fn value_at(&self, outlet: OutletId) -> Option<&Value> {
        self.values.get(&outlet)
    }

    /// The numbers of a constant, in the order of the view's axes.
    pub(super) fn constant(&self, view: &View) -> Option<Vec<f32>> {
        let Op::Constant(values) = &self.graph.nodes[view.node].op else {
            return None;
        };
        Some(probe::places(view).into_iter().map(|at| values[at]).collect())
    }

    /// The one number of a constant whose elements are all the same.
    pub(super) fn scalar(&self, view: &View) -> Option<f64> {
        let Op::Constant(values) = &self.graph.nodes[view.node].op else {
            return None;
        };
        let first = *values.first()?;
        values.iter().all(|value| *value == first).then_some(f64::from(first))
    }

    /// One number over and over.
    pub(super) fn filled(&mut self, name: &str, number: f64, shape: &[usize]) -> View {
        let constant = Op::Constant(Arc::new(vec![number as f32]));
        let one = self.graph.add(name, constant, f32::datum_type(), View::row_major(0, &[]));
        let axes = shape.iter().map(|size| atoms([Atom { size: *size, stride: 0 }])).collect();
        View { axes, ..one }
    }

    fn add_tensor(&mut self, name: &str, tensor: Arc<Tensor>) -> anyhow::Result<Value> {
        let view = View::row_major(0, tensor.shape());
        let datum_type = tensor.datum_type();
        let op = match datum_type == f32::datum_type() {
            true => Op::Constant(Arc::new(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())),
            false => Op::Tensor(tensor),
        };
        Ok(Value::View(self.graph.add(name, op, datum_type, view)))
    }

    /// The tensor of a node that is a constant.
    fn tensor(&self, view: &View) -> Option<Tensor> {
        match &self.graph.nodes[view.node].op {
            Op::Constant(_) => Tensor::from_shape(&view.shape(), &self.constant(view)?).ok(),
            Op::Tensor(tensor) => Some(Tensor::clone(tensor)),
            _ => None,
        }
    }

    /// What we make of a node ourselves.
    fn value(&mut self, model: &TypedModel, node: &TypedNode) -> anyhow::Result<Option<Value>> {
        let fact = &node.outputs[0].fact;
        if let Some(constant) = node.op_as::<Const>() {
            return self.add_tensor(&node.name, constant.val().clone()).map(Some);
        }
        if let Some(weight) = node.op_as::<WeightOp>() {
            return Ok(Some(Value::Weight(weight.name.clone(), weight.shape.clone())));
        }
        if let Some(filled) = node.op_as::<FilledOp>() {
            return Ok(Some(Value::View(self.filled(&node.name, f64::from(filled.value), &filled.shape))));
        }
        let shape = concrete(fact)?;
        if node.op_is::<TypedSource>() {
            let at = model.inputs.iter().position(|input| input.node == node.id);
            let at = at.context("a source that is no input")?;
            let view = self.graph.add(&node.name, Op::Input(at), fact.datum_type, View::row_major(0, &shape));
            return Ok(Some(Value::View(view)));
        }
        if let Some(folded) = self.folded(node)? {
            return Ok(Some(folded));
        }
        if fact.datum_type != f32::datum_type() {
            return Ok(None);
        }
        let view = if let Some(conv) = node.op_as::<Conv>() {
            gemm::convolution(self, conv, node, &shape)?
        } else if let Some(einsum) = node.op_as::<EinSum>() {
            match gemm::linear(self, einsum, node, &shape)? {
                Some(view) => Some(view),
                None => attention::attention(self, einsum, node)?,
            }
        } else if let Some(standardize) = node.op_as::<Standardize>() {
            norm::norm(self, standardize, node)?
        } else if let Some(binary) = node.op_as::<TypedBinOp>() {
            self.binary(binary, node, &shape)?
        } else if let Some(one) = node.op_as::<ElementWiseOp>() {
            self.elementwise(one, node)?
        } else if let Some(concat) = node.op_as::<TypedConcat>() {
            Some(self.concat(concat.axis, node, &shape)?)
        } else {
            self.movement(model, node, &shape)?
        };
        Ok(view.map(Value::View))
    }

    /// A node all of whose inputs are constants, evaluated now.
    fn folded(&mut self, node: &TypedNode) -> anyhow::Result<Option<Value>> {
        let size = concrete(&node.outputs[0].fact)?.iter().product::<usize>();
        if node.inputs.is_empty() || node.outputs.len() != 1 || size > FOLDED_MAX {
            return Ok(None);
        }
        let mut inputs = TVec::new();
        for outlet in &node.inputs {
            let Some(Value::View(view)) = self.values.get(outlet) else {
                return Ok(None);
            };
            if view.len() > FOLDED_MAX {
                return Ok(None);
            }
            let Some(tensor) = self.tensor(view) else {
                return Ok(None);
            };
            inputs.push(tensor.into_tvalue());
        }
        match node.op.eval_out_of_plan(inputs)? {
            Some(mut values) => self.add_tensor(&node.name, values.remove(0).into_arc_tensor()).map(Some),
            None => Ok(None),
        }
    }

    /// Axes moved, regrouped, cut, repeated: no more than a view.
    fn movement(
        &mut self,
        model: &TypedModel,
        node: &TypedNode,
        shape: &[usize],
    ) -> anyhow::Result<Option<View>> {
        let Some(input) = node.inputs.first() else {
            return Ok(None);
        };
        if model.outlet_fact(*input)?.datum_type != f32::datum_type() {
            return Ok(None);
        }
        let view = self.view(*input)?;
        if node.op_is::<Cast>() || node.op_is::<Identity>() {
            return Ok(Some(view));
        }
        if let Some(axis) = node.op_as::<AxisOp>() {
            return Ok(Some(match axis {
                AxisOp::Move(from, to) => view.moved(*from, *to),
                _ => match view.reshaped(shape) {
                    Some(view) => view,
                    None => {
                        let layout = View::row_major(view.node, &view.shape());
                        let copy = self.graph.laid_out(&view, &layout);
                        copy.reshaped(shape).context("rows in order take any shape")?
                    }
                },
            }));
        }
        if node.op_is::<MultiBroadcastTo>() {
            return Ok(view.broadcast(shape));
        }
        let others = node.inputs[1..].iter().map(|outlet| match self.values.get(outlet) {
            Some(Value::View(view)) => self.tensor(view),
            _ => None,
        });
        let Some(others) = others.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        Ok(probe::movement(node.op.as_ref(), &view, &others, shape))
    }

    fn concat(&mut self, axis: usize, node: &TypedNode, shape: &[usize]) -> anyhow::Result<View> {
        let parts =
            node.inputs.iter().map(|outlet| self.view(*outlet)).collect::<anyhow::Result<Vec<_>>>()?;
        // Laid out as the first part is, so that channels stay last where they are.
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).collect();
        let compact = parts[0].compact();
        let stride = |axis: &usize| compact.axes[*axis].first().map_or(usize::MAX, |atom| atom.stride);
        if compact.axes.iter().all(|axis| axis.len() <= 1) {
            order.sort_by_key(|axis| std::cmp::Reverse(stride(axis)));
        }
        let sorted: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
        let stored = View::row_major(self.graph.nodes.len(), &sorted);
        let mut whole = stored.clone();
        for (place, axis) in order.iter().enumerate() {
            whole.axes[*axis] = stored.axes[place].clone();
        }
        let mut at = 0;
        let mut copies = Vec::new();
        for part in parts {
            let count = part.shape()[axis];
            let to = whole.sliced(axis, at, count).context("an axis of one atom")?;
            copies.push((part, to));
            at += count;
        }
        Ok(self.graph.add(&node.name, Op::Copy(copies), f32::datum_type(), whole))
    }

    /// The node as tract computes it.
    fn foreign(&mut self, model: &TypedModel, node: &TypedNode) -> anyhow::Result<Value> {
        ensure!(node.outputs.len() == 1, "an operation with {} outputs", node.outputs.len());
        let mut inputs = Vec::new();
        for outlet in &node.inputs {
            let view = self.view(*outlet)?;
            let f32_input = model.outlet_fact(*outlet)?.datum_type == f32::datum_type();
            inputs.push(if f32_input {
                let layout = View::row_major(view.node, &view.shape());
                self.graph.laid_out(&view, &layout)
            } else {
                view
            });
        }
        let fact = &node.outputs[0].fact;
        let op = Op::Foreign(node.op.clone(), inputs);
        let view = View::row_major(0, &concrete(fact)?);
        Ok(Value::View(self.graph.add(&node.name, op, fact.datum_type, view)))
    }
}

pub(super) fn concrete(fact: &TypedFact) -> anyhow::Result<Vec<usize>> {
    Ok(fact.shape.as_concrete().with_context(|| format!("shape {:?} is open", fact.shape))?.to_vec())
}
