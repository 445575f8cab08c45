//! Attention, as every exporter of this age writes it: a product, a scale, perhaps a mask, softmax, a product.

use tract_core::internal::TypedNode;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::Softmax;
use tract_onnx::prelude::*;

use super::expr::{Meaning, Two};
use super::ir::{Attention, Op};
use super::read::Reader;
use super::view::{View, atoms};

/// The axes of a product of two tensors.
struct Product {
    batch: Vec<[usize; 3]>,
    /// In the first input and the output, in the second and the output, in both inputs.
    rows: [usize; 2],
    columns: [usize; 2],
    summed: [usize; 2],
}

fn product(einsum: &EinSum, first: usize) -> Option<Product> {
    let (mut batch, mut rows, mut columns, mut summed) = (Vec::new(), None, None, None);
    for axis in einsum.axes.iter_all_axes() {
        match (&axis.inputs[first][..], &axis.inputs[1 - first][..], &axis.outputs[0][..]) {
            ([a], [b], [o]) => batch.push([*a, *b, *o]),
            ([a], [], [o]) if rows.is_none() => rows = Some([*a, *o]),
            ([], [b], [o]) if columns.is_none() => columns = Some([*b, *o]),
            ([a], [b], []) if summed.is_none() => summed = Some([*a, *b]),
            _ => return None,
        }
    }
    batch.sort_by_key(|[_, _, output]| *output);
    Some(Product { batch, rows: rows?, columns: columns?, summed: summed? })
}

/// A view with its axes in this order.
fn ordered(view: &View, axes: impl IntoIterator<Item = usize>) -> View {
    View { axes: axes.into_iter().map(|axis| view.axes[axis].clone()).collect(), ..view.clone() }
}

/// Takes the product of softmaxed scores and values for the attention that it ends.
pub(super) fn attention(
    reader: &mut Reader<'_>,
    einsum: &EinSum,
    node: &TypedNode,
) -> anyhow::Result<Option<View>> {
    if node.inputs.len() != 2 || einsum.q_params.is_some() {
        return Ok(None);
    }
    let sides = [reader.view(node.inputs[0])?, reader.view(node.inputs[1])?];
    Ok((0..2).find_map(|first| ending(reader, einsum, node, &sides, first)))
}

fn ending(
    reader: &mut Reader<'_>,
    einsum: &EinSum,
    node: &TypedNode,
    sides: &[View; 2],
    first: usize,
) -> Option<View> {
    let (weights, values) = (&sides[first], &sides[1 - first]);
    let last = product(einsum, first)?;
    // The softmax runs over what the product sums, and all that follows it lies as rows of keys.
    let Op::Foreign(op, scores) = &reader.graph.nodes[weights.node].op else {
        return None;
    };
    let softmax = op.downcast_ref::<Softmax>()?;
    let over_last = softmax.axes[..] == [scores[0].axes.len() - 1];
    let keys = weights.shape()[last.summed[0]];
    let queries = weights.shape()[last.rows[0]];
    let in_order = |view: &View| -> bool {
        let shape = view.shape();
        *view == View::row_major(view.node, &shape) && shape.ends_with(&[queries, keys])
    };
    let weights_in_order =
        ordered(weights, last.batch.iter().map(|[a, _, _]| *a).chain([last.rows[0], last.summed[0]]));
    if !over_last || !in_order(&weights_in_order) || !in_order(&scores[0]) {
        return None;
    }
    let Scores { scale, mask, product: (scored, inputs) } = scores_of(reader, &scores[0], &in_order)?;
    let rank = scored.batch.len() + 2;
    if scored.rows[1] != rank - 2 || scored.columns[1] != rank - 1 || inputs.len() != 2 {
        return None;
    }
    let batch = |slot: usize| scored.batch.iter().map(move |axes| axes[slot]);
    let query = ordered(&source(reader, &inputs[0]), batch(0).chain([scored.rows[0], scored.summed[0]]));
    let key = ordered(&source(reader, &inputs[1]), batch(1).chain([scored.columns[0], scored.summed[1]]));
    let value =
        ordered(values, last.batch.iter().map(|[_, b, _]| *b).chain([last.summed[1], last.columns[0]]));
    let (query, query_gain) = gain(reader, query);
    let (key, key_gain) = gain(reader, key);
    let [query, key, value] = [flat(&query), flat(&key), flat(&value)];
    let one_step = |view: &View| view.axes[2].len() <= 1 && view.axes[1].len() <= 1;
    if ![&query, &key, &value].into_iter().all(one_step) {
        return None;
    }
    // The output lies as the queries do, so heads end up side by side as they were.
    let depth = value.shape()[2];
    let mut like = query.clone();
    like.axes[2] = View::row_major(0, &[depth]).axes.remove(0);
    let output = if query.shape()[2] == depth { query.compact() } else { like.compact() };
    let mask = mask.map(|mask| {
        let layout = View::row_major(mask.node, &[queries, keys]);
        reader.graph.laid_out(&mask, &layout)
    });
    let attention = Attention {
        query,
        key,
        value,
        scale: (scale * query_gain * key_gain) as f32,
        mask,
        output: output.clone(),
    };
    // Back to the axes of the graph.
    let out_batch: Vec<usize> = last.batch.iter().map(|[a, _, _]| weights.shape()[*a]).collect();
    let shape: Vec<usize> = out_batch.into_iter().chain([queries, depth]).collect();
    let split = output.reshaped(&shape)?;
    let mut view = split.clone();
    view.axes = vec![Vec::new(); shape.len()];
    for (from, to) in last.batch.iter().map(|axes| axes[2]).chain([last.rows[1], last.columns[1]]).enumerate()
    {
        view.axes[to] = split.axes[from].clone();
    }
    Some(reader.graph.add(&node.name, Op::Attention(Box::new(attention)), f32::datum_type(), view))
}

/// The product of queries and keys, and what stands between it and the softmax.
struct Scores {
    scale: f64,
    mask: Option<View>,
    product: (Product, Vec<View>),
}

/// Back from the softmax's input through mask and scale to the product of queries and keys.
fn scores_of(reader: &Reader<'_>, scores: &View, in_order: &dyn Fn(&View) -> bool) -> Option<Scores> {
    let mut scores = scores.clone();
    let (mut scale, mut mask) = (1.0, None);
    loop {
        match &reader.graph.nodes[scores.node].op {
            Op::Foreign(op, inputs) if op.is::<EinSum>() => {
                let einsum = op.downcast_ref::<EinSum>()?;
                return Some(Scores { scale, mask, product: (product(einsum, 0)?, inputs.clone()) });
            }
            Op::Map(of, expr) => {
                let Meaning::Gain(gain) = expr.meaning() else {
                    return None;
                };
                scale *= gain;
                scores = scores.on(*of);
            }
            Op::Binary(Two::Add, a, b) if mask.is_none() && scale == 1.0 => {
                let (inner, added) = if in_order(a) { (a, b) } else { (b, a) };
                let rank = added.axes.len();
                let constant_over_batch =
                    added.axes[..rank - 2].iter().flatten().all(|atom| atom.stride == 0);
                if !in_order(inner) || !constant_over_batch {
                    return None;
                }
                mask = Some(ordered(added, [rank - 2, rank - 1]));
                scores = inner.clone();
            }
            _ => return None,
        }
    }
}

/// Batches and heads in one list, whatever axes they are spread over.
fn flat(view: &View) -> View {
    let rank = view.axes.len();
    let batch = atoms(view.axes[..rank - 2].iter().flatten().copied());
    View { axes: vec![batch, view.axes[rank - 2].clone(), view.axes[rank - 1].clone()], ..view.clone() }
}

/// What lies behind the copy that was made for tract.
fn source(reader: &Reader<'_>, view: &View) -> View {
    match &reader.graph.nodes[view.node].op {
        Op::Copy(parts) => match &parts[..] {
            [(from, to)] if to.axes == view.axes && to.offset == view.offset => from.clone(),
            _ => view.clone(),
        },
        _ => view.clone(),
    }
}

/// A tensor that is another one times a number, as these two.
fn gain(reader: &Reader<'_>, view: View) -> (View, f64) {
    let (base, expr) = reader.function(&view);
    match expr.meaning() {
        Meaning::Gain(gain) => (base, gain),
        _ => (view, 1.0),
    }
}
