//! Attention over views: heads are taken where they lie, and put side by side where the next layer reads them.

use super::Machine;
use crate::engine::kernels::attention::{Head, Mask, Rows, Tile};
use crate::engine::lower::{Atom, Attention, View};

/// Buffers of the three inputs and the mask.
pub(in crate::engine) struct Inputs<'a> {
    pub(in crate::engine) query: &'a [f32],
    pub(in crate::engine) key: &'a [f32],
    pub(in crate::engine) value: &'a [f32],
    pub(in crate::engine) mask: Option<&'a [f32]>,
}

/// Where each batch entry's head begins.
fn starts(view: &View) -> Vec<usize> {
    let mut starts = vec![view.offset];
    for Atom { size, stride } in &view.axes[0] {
        starts = starts.iter().flat_map(|at| (0..*size).map(move |step| at + step * stride)).collect();
    }
    starts
}

fn rows<'a>(view: &View, start: usize, values: &'a [f32]) -> Rows<'a> {
    let [_, tokens, depth] = view.shape()[..] else { unreachable!("batch, tokens, depth") };
    Rows { values: &values[start..], stride: stride(view, 1), tokens, depth }
}

fn stride(view: &View, axis: usize) -> usize {
    view.axes[axis].first().map_or(0, |atom| atom.stride)
}

/// `heads` is memory from earlier calls.
pub(in crate::engine) fn attention(
    machine: &Machine,
    op: &Attention,
    inputs: &Inputs<'_>,
    heads: &mut Vec<Head>,
    out: &mut [f32],
) {
    let (query_starts, key_starts, value_starts) = (starts(&op.query), starts(&op.key), starts(&op.value));
    let output_starts = starts(&op.output);
    heads.resize_with(heads.len().max(key_starts.len()), Head::default);
    let heads = &mut heads[..key_starts.len()];
    machine.pool.each(machine.pool.rows(heads, 1), |(first, heads)| {
        for (at, head) in (first..).zip(heads) {
            let keys = rows(&op.key, key_starts[at], inputs.key);
            head.load(machine.unit.level, keys, rows(&op.value, value_starts[at], inputs.value));
        }
    });
    let mask = op
        .mask
        .as_ref()
        .zip(inputs.mask)
        .map(|(view, values)| Mask { values: &values[view.offset..], stride: stride(view, 0) });
    // The output is rows of one token each, with the heads that lie side by side there; threads take whole rows.
    let [_, tokens, depth] = op.query.shape()[..] else { unreachable!("batch, tokens, depth") };
    let depth = op.output.shape().last().copied().unwrap_or(depth);
    let row = stride(&op.output, 1).max(depth);
    let most = machine.unit.kernel.rows;
    let part_rows = (out.len() / row).div_ceil(machine.pool.threads()).max(1);
    let parts: Vec<_> = out.chunks_mut(part_rows * row).enumerate().collect();
    machine.pool.each(parts, |(part, out)| {
        let mut tile = Tile::new(machine.unit);
        let held = part * part_rows..part * part_rows + out.len() / row;
        for (at, head) in heads.iter().enumerate() {
            let queries = rows(&op.query, query_starts[at], inputs.query);
            // Tokens of this head whose rows this thread has.
            let (block, column) = (output_starts[at] / row, output_starts[at] % row);
            let first = held.start.saturating_sub(block).min(tokens);
            let last = held.end.saturating_sub(block).min(tokens);
            for token in (first..last).step_by(most) {
                let count = most.min(last - token);
                let to = &mut out[(block + token - held.start) * row + column..];
                tile.run(head, queries, op.scale, mask, [token, count], to, row);
            }
        }
    });
}
