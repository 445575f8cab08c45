//! softmax(Q K^T) V on integer kernels, a block of keys at a time, so that scores never leave the first-level cache.
//!
//! Keys and values are what a layer's weights are ([`Head`]). Queries are coded row by row. The exponentials of a block
//! are coded relative to the largest of that block, not of the row, so a thousand small ones do not round to nothing;
//! what they sum up to is counted after rounding.

use super::codes::{Unit, encode_row};
use super::head::{BLOCK, padded_panels, refill};
pub(in crate::engine) use super::head::{Head, Rows};
use super::math::exp2;
use super::softmax::{accumulate, scores, soften, with_mask};
use super::{PANEL, ROWS_MAX, STEP, sums};

/// A mask added to the scores: rows of `stride`, one for each query token; stride 0 for one row for all.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Mask<'a> {
    pub(in crate::engine) values: &'a [f32],
    pub(in crate::engine) stride: usize,
}

/// What a thread needs to work on one tile of queries.
pub(in crate::engine) struct Tile {
    unit: Unit,
    codes: Vec<u8>,
    sums: Vec<i32>,
    scores: Vec<f32>,
    weights: Vec<u8>,
    products: Vec<f32>,
}

impl Tile {
    pub(in crate::engine) fn new(unit: Unit) -> Tile {
        Tile {
            unit,
            codes: Vec::new(),
            sums: vec![0; ROWS_MAX * BLOCK],
            scores: vec![0.0; ROWS_MAX * BLOCK],
            weights: vec![0; ROWS_MAX * BLOCK],
            products: Vec::new(),
        }
    }

    /// Attention of query tokens `first..first + count`, at most as many as the kernel takes rows, into rows of `out`
    /// that are `stride` apart.
    #[allow(clippy::too_many_arguments, reason = "the formula's own operands, and where they lie")]
    pub(in crate::engine) fn run(
        &mut self,
        head: &Head,
        queries: Rows<'_>,
        scale: f32,
        mask: Option<Mask<'_>>,
        [first, count]: [usize; 2],
        out: &mut [f32],
        stride: usize,
    ) {
        let Unit { kernel, level } = self.unit;
        let width = queries.depth.next_multiple_of(STEP);
        refill(&mut self.codes, count * width);
        // Scores count in powers of two from here on.
        let scale = scale * std::f32::consts::LOG2_E;
        let mut row_scales = [[0.0; 2]; ROWS_MAX];
        for (row, codes) in self.codes.chunks_exact_mut(width).enumerate() {
            let (step, offset) = encode_row(self.unit, queries.row(first + row), &mut codes[..queries.depth]);
            row_scales[row] = [step * scale, offset * scale];
        }
        let panels = padded_panels(head.depth);
        refill(&mut self.products, count * panels * PANEL);
        self.sums.resize(ROWS_MAX * BLOCK.max(panels * PANEL), 0);
        let code_max = f32::from(kernel.code_max);
        let mut largest = [f32::NEG_INFINITY; ROWS_MAX];
        let mut total = [0.0; ROWS_MAX];
        for block in 0..head.tokens.div_ceil(BLOCK) {
            let keys = BLOCK.min(head.tokens - block * BLOCK);
            let mut tops = [0.0; ROWS_MAX];
            self.score(head, block, [count, keys], &row_scales, &mut tops);
            let mut factors = [[0.0; 2]; ROWS_MAX];
            let block_width = head.block_width(block);
            for row in 0..count {
                let scores = &mut self.scores[row * BLOCK..][..block_width];
                if let Some(mask) = mask {
                    let mask = &mask.values[(first + row) * mask.stride + block * BLOCK..][..keys];
                    tops[row] = with_mask(level, scores, mask);
                }
                let weights = &mut self.weights[row * BLOCK..][..block_width];
                let sum = soften(level, scores, tops[row], code_max, kernel.code_zero, weights);
                let reached = largest[row].max(tops[row]);
                let [before, now] = [largest[row], tops[row]].map(|top| exp2::<false>(top - reached));
                largest[row] = reached;
                total[row] = total[row] * before + sum * now;
                factors[row] = [before, now / code_max];
            }
            self.weigh(head, block, count, &factors);
        }
        for row in 0..count {
            let products = &self.products[row * panels * PANEL..][..head.depth];
            let out = &mut out[row * stride..][..head.depth];
            let rest = total[row].recip();
            let scales = head.value_scales.iter().zip(&head.value_means);
            for ((out, x), (scale, mean)) in out.iter_mut().zip(products).zip(scales) {
                *out = x * scale * rest + mean;
            }
        }
    }

    /// Scores of a block's keys, and the largest of each row.
    fn score(
        &mut self,
        head: &Head,
        block: usize,
        [count, keys]: [usize; 2],
        row_scales: &[[f32; 2]; ROWS_MAX],
        tops: &mut [f32; ROWS_MAX],
    ) {
        let Unit { kernel, level } = self.unit;
        let width = self.codes.len() / count;
        let mut rows: [&[u8]; ROWS_MAX] = [&[]; ROWS_MAX];
        rows.iter_mut().zip(self.codes.chunks_exact(width)).for_each(|(row, codes)| *row = codes);
        let (first, size) = (block * BLOCK / PANEL, width * PANEL);
        let last = (first + BLOCK / PANEL).min(head.key_scales.len() / PANEL);
        for panel in (first..last).step_by(2) {
            let starts = [panel * size, (panel + 1) * size];
            let out = &mut self.sums[(panel - first) * PANEL..];
            sums::fill(kernel, &rows[..count], &head.keys, &starts, out, BLOCK);
        }
        let held = first * PANEL..last * PANEL;
        let keys_of = [&head.key_scales[held.clone()], &head.key_sums[held]];
        scores(
            level,
            &self.sums,
            kernel.excess() as f32,
            &row_scales[..count],
            keys_of,
            keys,
            &mut self.scores,
            tops,
        );
    }

    /// Adds a block's values under its weights to the products of each row, which are scaled down first.
    fn weigh(&mut self, head: &Head, block: usize, count: usize, factors: &[[f32; 2]; ROWS_MAX]) {
        let Unit { kernel, level } = self.unit;
        let panels = padded_panels(head.depth);
        let width = head.block_width(block);
        let mut rows: [&[u8]; ROWS_MAX] = [&[]; ROWS_MAX];
        rows.iter_mut().zip(self.weights.chunks_exact(BLOCK)).for_each(|(row, codes)| *row = &codes[..width]);
        let (start, size) = (block * panels * BLOCK * PANEL, width * PANEL);
        for panel in (0..head.depth.div_ceil(PANEL)).step_by(2) {
            let starts = [panel, panel + 1].map(|panel| start + panel * size);
            // The last panel may stand alone: with a depth of 40 a second one would be zeros.
            let starts = &starts[..2.min(head.depth.div_ceil(PANEL) - panel)];
            sums::fill(
                kernel,
                &rows[..count],
                &head.values,
                starts,
                &mut self.sums[panel * PANEL..],
                panels * PANEL,
            );
        }
        let weight_sums = &head.value_sums[block * panels * PANEL..][..panels * PANEL];
        let zero = f32::from(kernel.code_zero);
        let channels = head.depth.next_multiple_of(PANEL);
        accumulate(level, &self.sums, &factors[..count], zero, &weight_sums[..channels], &mut self.products);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::*;

    fn wave(count: usize, pace: f32) -> Vec<f32> {
        (0..count).map(|at| (at as f32 * pace).sin() + (at as f32 * pace * 0.37).cos() * 0.5).collect()
    }

    fn reference(
        queries: Rows<'_>,
        keys: Rows<'_>,
        values: Rows<'_>,
        scale: f64,
        mask: Option<Mask<'_>>,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for query in 0..queries.tokens {
            let scores: Vec<f64> = (0..keys.tokens)
                .map(|key| {
                    let pairs = queries.row(query).iter().zip(keys.row(key));
                    let dot: f64 = pairs.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    dot * scale + mask.map_or(0.0, |mask| f64::from(mask.values[query * mask.stride + key]))
                })
                .collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            for channel in 0..values.depth {
                let sum: f64 =
                    (0..keys.tokens).map(|key| weights[key] * f64::from(values.row(key)[channel])).sum();
                out.push(sum / total);
            }
        }
        out
    }

    /// Root of the mean squared error, as a part of the values'. (Not of the output's: means of many waves are small.)
    fn error(unit: Unit, queries: usize, keys: usize, depth: usize, masked: bool) -> f64 {
        let [q, k, v] =
            [(queries, 0.7), (keys, 1.3), (keys, 2.1)].map(|(tokens, pace)| wave(tokens * depth, pace));
        let rows = |values, tokens| Rows { values, stride: depth, tokens, depth };
        let (q, k, v) = (rows(&q, queries), rows(&k, keys), rows(&v, keys));
        let mask: Vec<f32> =
            (0..queries * keys).map(|at| if at % keys > at / keys { f32::MIN } else { 0.0 }).collect();
        let mask = masked.then_some(Mask { values: &mask, stride: keys });
        let mut head = Head::default();
        head.load(unit.level, k, v);
        let mut tile = Tile::new(unit);
        let mut out = vec![0.0; queries * depth];
        for first in (0..queries).step_by(unit.kernel.rows) {
            let count = unit.kernel.rows.min(queries - first);
            tile.run(&head, q, 0.3, mask, [first, count], &mut out[first * depth..], depth);
        }
        let wanted = reference(q, k, v, 0.3, mask);
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
        let off = squares(&mut out.iter().zip(&wanted).map(|(a, b)| f64::from(*a) - b)) / out.len() as f64;
        let size = squares(&mut v.values.iter().map(|x| f64::from(*x))) / v.values.len() as f64;
        (off / size).sqrt()
    }

    #[test]
    fn attention_is_close_to_double_precision_at_every_shape() {
        for unit in Isa::supported().into_iter().map(Unit::of) {
            // 7-bit codes where the kernel asks for them.
            let bound = if unit.kernel.code_max == 127 { 0.008 } else { 0.006 };
            for (queries, keys, depth) in [(1, 1, 8), (5, 77, 24), (13, 256, 40), (3, 600, 20), (2, 257, 64)]
            {
                for masked in [false, true] {
                    let error = error(unit, queries, keys, depth, masked);
                    assert!(error < bound, "{:?} {queries}x{keys}x{depth}: {error}", unit.kernel.isa);
                }
            }
        }
    }
}
