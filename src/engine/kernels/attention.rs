//! softmax(Q K^T) V on integer kernels, a block of keys at a time, so that scores never leave the first-level cache.
//!
//! Keys and values are what a layer's weights are, s8 in panels: keys with a scale per token, values with one per
//! channel. Both are taken less their mean first. That changes nothing (softmax does not see a number added to all
//! scores, and weights that sum to 1 give the mean of the values back) and leaves less to round (SageAttention,
//! Zhang et al. 2024). Queries are coded row by row. The exponentials of a block are coded relative to the largest
//! of that block, not of the row, so a thousand small ones do not round to nothing; what they sum up to is
//! counted after rounding.

use super::codes::{Unit, encode_row};
use super::float::{Level, versions};
use super::math::{exp, fma};
use super::sums::Sums;
use super::{PANEL, QUAD, ROWS_MAX, STEP};

/// Keys per block: scores of a tile fill half of a 32 KiB cache.
const BLOCK: usize = 256;

/// Keys and values of one head.
#[derive(Debug, Default)]
pub(in crate::engine) struct Head {
    tokens: usize,
    depth: usize,
    /// `[panel of 16 keys][quad][key][4]`.
    keys: Vec<i8>,
    key_scales: Vec<f32>,
    key_sums: Vec<f32>,
    /// `[block][panel of 16 channels][quad of keys][channel][4]`.
    values: Vec<i8>,
    value_sums: Vec<f32>,
    value_scales: Vec<f32>,
    value_means: Vec<f32>,
}

/// Rows of a head: `depth` values side by side, `stride` from one token to the next.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Rows<'a> {
    pub(in crate::engine) values: &'a [f32],
    pub(in crate::engine) stride: usize,
    pub(in crate::engine) tokens: usize,
    pub(in crate::engine) depth: usize,
}

impl Rows<'_> {
    fn row(&self, token: usize) -> &[f32] {
        &self.values[token * self.stride..][..self.depth]
    }

    fn means(&self) -> Vec<f32> {
        let mut means = vec![0.0; self.depth];
        for token in 0..self.tokens {
            means.iter_mut().zip(self.row(token)).for_each(|(mean, x)| *mean += x);
        }
        means.iter_mut().for_each(|mean| *mean /= self.tokens as f32);
        means
    }
}

fn padded_panels(count: usize) -> usize {
    count.next_multiple_of(2 * PANEL) / PANEL
}

fn code(value: f32, steps: f32) -> i8 {
    (value * steps).round_ties_even() as i8
}

impl Head {
    /// Codes the keys and values of a head, keeping the memory there is.
    pub(in crate::engine) fn load(&mut self, keys: Rows<'_>, values: Rows<'_>) {
        (self.tokens, self.depth) = (keys.tokens, values.depth);
        self.load_keys(keys);
        self.load_values(values);
    }

    fn load_keys(&mut self, keys: Rows<'_>) {
        let width = keys.depth.next_multiple_of(STEP);
        let panels = padded_panels(keys.tokens);
        refill(&mut self.keys, panels * PANEL * width);
        refill(&mut self.key_scales, panels * PANEL);
        refill(&mut self.key_sums, panels * PANEL);
        let means = keys.means();
        let mut centred = vec![0.0; keys.depth];
        for token in 0..keys.tokens {
            for ((to, x), mean) in centred.iter_mut().zip(keys.row(token)).zip(&means) {
                *to = x - mean;
            }
            let largest = centred.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let steps = if largest > f32::MIN_POSITIVE { 127.0 / largest } else { 0.0 };
            let start = token / PANEL * PANEL * width + token % PANEL * QUAD;
            let mut sum = 0;
            for (channel, x) in centred.iter().enumerate() {
                let code = code(*x, steps);
                sum += i32::from(code);
                self.keys[start + channel / QUAD * PANEL * QUAD + channel % QUAD] = code;
            }
            self.key_scales[token] = largest / 127.0;
            self.key_sums[token] = sum as f32;
        }
    }

    fn load_values(&mut self, values: Rows<'_>) {
        let (blocks, panels) = (values.tokens.div_ceil(BLOCK), padded_panels(values.depth));
        refill(&mut self.values, blocks * panels * PANEL * BLOCK);
        refill(&mut self.value_sums, blocks * panels * PANEL);
        self.value_means = values.means();
        let mut largest = vec![0.0_f32; values.depth];
        for token in 0..values.tokens {
            for ((largest, x), mean) in largest.iter_mut().zip(values.row(token)).zip(&self.value_means) {
                *largest = largest.max((x - mean).abs());
            }
        }
        self.value_scales = largest.iter().map(|largest| largest / 127.0).collect();
        let steps: Vec<f32> = largest
            .iter()
            .map(|largest| if *largest > f32::MIN_POSITIVE { 127.0 / largest } else { 0.0 })
            .collect();
        for token in 0..values.tokens {
            let (block, key) = (token / BLOCK, token % BLOCK);
            let width = self.block_width(block);
            for (channel, x) in values.row(token).iter().enumerate() {
                let code = code(x - self.value_means[channel], steps[channel]);
                let panel = block * panels * BLOCK * PANEL + channel / PANEL * width * PANEL;
                let at = panel + (key / QUAD * PANEL + channel % PANEL) * QUAD + key % QUAD;
                self.values[at] = code;
                self.value_sums[block * panels * PANEL + channel] += f32::from(code);
            }
        }
    }

    /// Keys of a block, rounded up to whole steps.
    fn block_width(&self, block: usize) -> usize {
        BLOCK.min(self.tokens - block * BLOCK).next_multiple_of(STEP)
    }
}

fn refill<T: Clone + Default>(values: &mut Vec<T>, len: usize) {
    values.clear();
    values.resize(len, T::default());
}

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
    scores: Vec<f32>,
    weights: Vec<u8>,
    sums: Sums,
    products: Vec<f32>,
}

impl Tile {
    pub(in crate::engine) fn new(unit: Unit) -> Tile {
        let weights = vec![0; ROWS_MAX * BLOCK];
        Tile {
            unit,
            codes: Vec::new(),
            scores: vec![0.0; ROWS_MAX * BLOCK],
            weights,
            sums: Sums::new(),
            products: Vec::new(),
        }
    }

    /// Attention of query tokens `first..first + count`, at most as many as the kernel takes rows, into rows of `out`
    /// that are `stride` apart.
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
        let width = queries.depth.next_multiple_of(STEP);
        refill(&mut self.codes, count * width);
        let mut row_scales = [[0.0; 2]; ROWS_MAX];
        for (row, codes) in self.codes.chunks_exact_mut(width).enumerate() {
            let (step, offset) = encode_row(self.unit, queries.row(first + row), codes);
            row_scales[row] = [step * scale, offset * scale];
        }
        let panels = padded_panels(head.depth);
        refill(&mut self.products, count * panels * PANEL);
        let mut largest = [f32::NEG_INFINITY; ROWS_MAX];
        let mut total = [0.0; ROWS_MAX];
        for block in 0..head.tokens.div_ceil(BLOCK) {
            let keys = BLOCK.min(head.tokens - block * BLOCK);
            self.score(head, block, count, &row_scales);
            let code_max = f32::from(self.unit.kernel.code_max);
            let mut factors = [[0.0; 2]; ROWS_MAX];
            for row in 0..count {
                let scores = &mut self.scores[row * BLOCK..][..head.block_width(block)];
                if let Some(mask) = mask {
                    let mask = &mask.values[(first + row) * mask.stride + block * BLOCK..][..keys];
                    super::float::add(self.unit.level, scores, mask);
                }
                scores[keys..].fill(f32::NEG_INFINITY);
                // A row of nothing but masked keys has a largest score, too.
                let top = super::float::range(self.unit.level, &scores[..keys]).1.max(f32::MIN);
                let weights = &mut self.weights[row * BLOCK..][..scores.len()];
                let sum = soften(self.unit.level, scores, top, code_max, self.unit.kernel.code_zero, weights);
                let reached = largest[row].max(top);
                let [before, now] = [largest[row], top].map(|top| f32::exp(top - reached));
                largest[row] = reached;
                total[row] = total[row] * before + sum * now;
                factors[row] = [before, now / code_max];
            }
            self.weigh(head, block, count, &factors);
        }
        for row in 0..count {
            let products = &self.products[row * panels * PANEL..][..head.depth];
            let out = &mut out[row * stride..][..head.depth];
            let scales = head.value_scales.iter().zip(&head.value_means);
            for ((out, x), (scale, mean)) in out.iter_mut().zip(products).zip(scales) {
                *out = x * scale / total[row] + mean;
            }
        }
    }

    /// Scores of a block's keys.
    fn score(&mut self, head: &Head, block: usize, count: usize, row_scales: &[[f32; 2]; ROWS_MAX]) {
        let width = self.codes.len() / count;
        let mut rows: [&[u8]; ROWS_MAX] = [&[]; ROWS_MAX];
        rows.iter_mut().zip(self.codes.chunks_exact(width)).for_each(|(row, codes)| *row = codes);
        let (first, size) = (block * BLOCK / PANEL, width * PANEL);
        let last = (first + BLOCK / PANEL).min(head.key_scales.len() / PANEL);
        for panel in (first..last).step_by(2) {
            let starts = [panel * size, (panel + 1) * size];
            self.sums.fill(self.unit.kernel, &rows[..count], &head.keys, starts);
            for at in 0..2 {
                let keys = (panel + at) * PANEL..(panel + at + 1) * PANEL;
                let (scales, key_sums) = (&head.key_scales[keys.clone()], &head.key_sums[keys]);
                let (sums, stride) = self.sums.panel(at);
                let to = &mut self.scores[(panel + at - first) * PANEL..];
                place(self.unit.level, sums, stride, &row_scales[..count], scales, key_sums, to);
            }
        }
    }

    /// Adds a block's values under its weights to the products of each row, which are scaled down first.
    fn weigh(&mut self, head: &Head, block: usize, count: usize, factors: &[[f32; 2]; ROWS_MAX]) {
        let panels = padded_panels(head.depth);
        let width = head.block_width(block);
        let zero = f32::from(self.unit.kernel.code_zero);
        let mut rows: [&[u8]; ROWS_MAX] = [&[]; ROWS_MAX];
        rows.iter_mut().zip(self.weights.chunks_exact(BLOCK)).for_each(|(row, codes)| *row = &codes[..width]);
        let size = width * PANEL;
        for panel in (0..panels).step_by(2) {
            let start = block * panels * BLOCK * PANEL + panel * size;
            self.sums.fill(self.unit.kernel, &rows[..count], &head.values, [start, start + size]);
            for at in 0..2 {
                let channels = (panel + at) * PANEL;
                let weight_sums = &head.value_sums[block * panels * PANEL + channels..][..PANEL];
                let (sums, stride) = self.sums.panel(at);
                let to = &mut self.products[channels..];
                accumulate(
                    self.unit.level,
                    sums,
                    stride,
                    &factors[..count],
                    zero,
                    weight_sums,
                    to,
                    panels * PANEL,
                );
            }
        }
    }
}

versions! {
    /// Scores of one panel of keys, rows [`BLOCK`] apart.
    fn place(
        sums: &[i32],
        stride: usize,
        rows: &[[f32; 2]],
        key_scales: &[f32],
        key_sums: &[f32],
        scores: &mut [f32],
    ) {
        for (([scale, offset], sums), scores) in rows.iter().zip(sums.chunks(stride)).zip(scores.chunks_mut(BLOCK)) {
            let (sums, key_scales, key_sums) = (&sums[..PANEL], &key_scales[..PANEL], &key_sums[..PANEL]);
            for (((score, sum), key), key_sum) in scores.iter_mut().zip(sums).zip(key_scales).zip(key_sums) {
                *score = key * fma::<FMA>(*scale, *sum as f32, offset * key_sum);
            }
        }
    }
}

versions! {
    /// Codes of `exp(score - top)`, and what they stand for summed up.
    fn soften(scores: &[f32], top: f32, code_max: f32, code_zero: u8, codes: &mut [u8]) -> f32 {
        // Adding 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
        const MAGIC: f32 = 8_388_608.0;
        let mut lanes = [0; PANEL];
        for (scores, codes) in scores.chunks(PANEL).zip(codes.chunks_mut(PANEL)) {
            for ((score, code), lane) in scores.iter().zip(codes.iter_mut()).zip(&mut lanes) {
                let bits = fma::<FMA>(exp::<FMA>(score - top), code_max, MAGIC).to_bits() & 0xff;
                *lane += bits;
                *code = (bits as u8).wrapping_sub(code_zero);
            }
        }
        lanes.iter().sum::<u32>() as f32 / code_max
    }
}

versions! {
    /// `products = before * products + now * (sums + zero * weight_sums)` for one panel of channels.
    fn accumulate(
        sums: &[i32],
        stride: usize,
        factors: &[[f32; 2]],
        zero: f32,
        weight_sums: &[f32],
        products: &mut [f32],
        products_stride: usize,
    ) {
        let rows = factors.iter().zip(sums.chunks(stride)).zip(products.chunks_mut(products_stride));
        for (([before, now], sums), products) in rows {
            let (sums, weight_sums) = (&sums[..PANEL], &weight_sums[..PANEL]);
            for ((product, sum), weight_sum) in products.iter_mut().zip(sums).zip(weight_sums) {
                let block = fma::<FMA>(zero, *weight_sum, *sum as f32);
                *product = fma::<FMA>(*before, *product, now * block);
            }
        }
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
        head.load(k, v);
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
