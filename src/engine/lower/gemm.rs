//! Convolutions and products with weights.

use tract_core::internal::TypedNode;
use tract_core::ops::cnn::conv::KernelFormat;
use tract_core::ops::cnn::{Conv, PaddingSpec};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::DataFormat;
use tract_onnx::prelude::*;

use super::ir::{Gemm, Op};
use super::read::{Reader, Value};
use super::view::{NodeId, View, atoms};
use crate::engine::kernels::float::Activation;
use crate::engine::kernels::gemm::Geometry;
use crate::engine::records::Order;
use crate::engine::weights::WeightId;

fn plain(input: NodeId, geometry: Geometry, weight: WeightId, channels: usize, bias: Vec<f32>) -> Op {
    let activation = Activation::Identity;
    Op::Gemm(Box::new(Gemm {
        input,
        geometry,
        weight,
        channels,
        bias,
        row_bias: None,
        activation,
        gated: false,
        residual: None,
    }))
}

/// A two-dimensional convolution without groups or dilation, with a weight of the pack.
pub(super) fn convolution(
    reader: &mut Reader<'_>,
    conv: &Conv,
    node: &TypedNode,
    shape: &[usize],
) -> anyhow::Result<Option<View>> {
    let pool = &conv.pool_spec;
    let Some(Value::Weight(name, dims)) = reader.value_at(node.inputs[1]).cloned() else {
        return Ok(None);
    };
    let plain_conv = conv.group == 1
        && conv.q_params.is_none()
        && conv.kernel_fmt == KernelFormat::OIHW
        && pool.data_format == DataFormat::NCHW
        && pool.kernel_shape.len() == 2
        && pool.dilations.iter().flatten().all(|dilation| *dilation == 1);
    let padding = match &pool.padding {
        PaddingSpec::Explicit(before, _) => [before[0], before[1]],
        PaddingSpec::Valid => [0, 0],
        _ => return Ok(None),
    };
    let bias = reader.view(node.inputs[2])?;
    let (Some(bias), true) = (reader.constant(&bias), plain_conv) else {
        return Ok(None);
    };
    let [channels, inputs, taps] = [dims[0], dims[1], dims[2] * dims[3]];
    let weight = reader.weights.panels(&name, &Order::ChannelsFirst { channels, inputs, taps })?;

    let (rows, repeat) = unrepeated(&reader.view(node.inputs[0])?.moved(1, 3));
    let size = rows.shape();
    let layout = View::row_major(rows.node, &size);
    let input = reader.graph.laid_out(&rows, &layout);
    let strides = pool.strides.as_ref().map_or([1, 1], |strides| [strides[0], strides[1]]);
    let geometry = Geometry {
        batch: size[0],
        input: [size[1], size[2]],
        repeat,
        output: [shape[2], shape[3]],
        kernel: [dims[2], dims[3]],
        stride: strides,
        padding,
    };
    // tract spells a missing bias as one zero.
    let bias =
        if bias.len() == channels { bias } else { vec![bias.first().copied().unwrap_or(0.0); channels] };
    let output = View::row_major(0, &[shape[0], shape[2], shape[3], channels]).moved(3, 1);
    let op = plain(input.node, geometry, weight, channels, bias);
    Ok(Some(reader.graph.add(&node.name, op, f32::datum_type(), output)))
}

/// `[N, H, W, C]` without a nearest-neighbour upsampling of its rows and columns, and by how much that was.
fn unrepeated(view: &View) -> (View, usize) {
    let times = |axis: usize| view.axes[axis].last().filter(|atom| atom.stride == 0).map(|atom| atom.size);
    let mut inner = view.clone();
    match (times(1), times(2)) {
        (Some(rows), Some(columns)) if rows == columns => {
            inner.axes[1].pop();
            inner.axes[2].pop();
            (inner, rows)
        }
        _ => (inner, 1),
    }
}

/// A product with a two-dimensional weight of the pack.
pub(super) fn linear(
    reader: &mut Reader<'_>,
    einsum: &EinSum,
    node: &TypedNode,
    shape: &[usize],
) -> anyhow::Result<Option<View>> {
    if node.inputs.len() != 2 || einsum.q_params.is_some() {
        return Ok(None);
    }
    let weight_at = |slot: usize| match reader.value_at(node.inputs[slot]) {
        Some(Value::Weight(name, dims)) if dims.len() == 2 => Some((slot, name.clone(), dims.clone())),
        _ => None,
    };
    let Some((slot, name, dims)) = weight_at(1).or_else(|| weight_at(0)) else {
        return Ok(None);
    };
    // Which axis of the rows is summed over, and which of the output is new.
    let mut summed = None;
    let mut new = None;
    let mut kept = Vec::new();
    for axis in einsum.axes.iter_all_axes() {
        match (&axis.inputs[1 - slot][..], &axis.inputs[slot][..], &axis.outputs[0][..]) {
            ([rows], [weight], []) if summed.is_none() => summed = Some((*rows, *weight)),
            ([], [weight], [output]) if new.is_none() => new = Some((*output, *weight)),
            ([rows], [], [output]) => kept.push((*rows, *output)),
            _ => return Ok(None),
        }
    }
    let (Some((summed, summed_weight)), Some((new, new_weight))) = (summed, new) else {
        return Ok(None);
    };
    let (inputs, channels) = (dims[summed_weight], dims[new_weight]);
    let order = match summed_weight {
        0 => Order::InputsFirst { inputs, channels },
        _ => Order::ChannelsFirst { channels, inputs, taps: 1 },
    };
    let weight = reader.weights.panels(&name, &order)?;

    let mut rows = reader.view(node.inputs[1 - slot])?;
    let is_rows = |view: &View, len: usize| {
        view.is_dense(len)
            && matches!(view.axes[summed][..], [atom] if atom.stride == 1 && atom.size == inputs)
    };
    if !is_rows(&rows, reader.graph.nodes[rows.node].len()) {
        let last = rows.axes.len() - 1;
        let ordered = rows.moved(summed, last);
        let layout = View::row_major(rows.node, &ordered.shape());
        rows = reader.graph.laid_out(&ordered, &layout).moved(last, summed);
    }
    let mut output = View { node: 0, offset: 0, axes: vec![Vec::new(); shape.len()] };
    output.axes[new] = View::row_major(0, &[channels]).axes.remove(0);
    for (from, to) in kept {
        let rescaled = rows.axes[from]
            .iter()
            .map(|atom| super::view::Atom { size: atom.size, stride: atom.stride / inputs * channels });
        output.axes[to] = atoms(rescaled);
    }
    let geometry = Geometry::linear(rows.len() / inputs);
    let op = plain(rows.node, geometry, weight, channels, Vec::new());
    Ok(Some(reader.graph.add(&node.name, op, f32::datum_type(), output)))
}
