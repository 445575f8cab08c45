//! Keys and values of one attention head, as a layer's weights are: s8 in panels, keys with a scale per token, values
//! with one per channel.
//!
//! Both are taken less their mean first. That changes nothing (softmax does not see a number added to all scores, and
//! weights that sum to 1 give the mean of the values back) and leaves less to round (SageAttention, Zhang et al. 2024).

use super::float::{Level, versions};
use super::{PANEL, QUAD, STEP};

/// Keys per block: scores of a tile fill a third of a 32 KiB cache.
pub(super) const BLOCK: usize = 256;

/// Keys and values of one head.
#[derive(Debug, Default)]
pub(in crate::engine) struct Head {
    pub(super) tokens: usize,
    pub(super) depth: usize,
    /// `[panel of 16 keys][quad][key][4]`.
    pub(super) keys: Vec<i8>,
    pub(super) key_scales: Vec<f32>,
    pub(super) key_sums: Vec<f32>,
    /// `[block][panel of 16 channels][quad of keys][channel][4]`.
    pub(super) values: Vec<i8>,
    pub(super) value_sums: Vec<f32>,
    pub(super) value_scales: Vec<f32>,
    pub(super) value_means: Vec<f32>,
}

/// Rows of a head: `depth` values side by side, `stride` from one token to the next.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Rows<'a> {
    pub(in crate::engine) values: &'a [f32],
    pub(in crate::engine) stride: usize,
    pub(in crate::engine) tokens: usize,
    pub(in crate::engine) depth: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn row(&self, token: usize) -> &'a [f32] {
        &self.values[token * self.stride..][..self.depth]
    }

    fn means(&self, level: Level) -> Vec<f32> {
        let mut means = vec![0.0; self.depth];
        for token in 0..self.tokens {
            super::float::add(level, &mut means, self.row(token));
        }
        means.iter_mut().for_each(|mean| *mean /= self.tokens as f32);
        means
    }
}

/// Panels for so many rows or channels, an even number.
pub(super) fn padded_panels(count: usize) -> usize {
    count.next_multiple_of(2 * PANEL) / PANEL
}

/// `len` zeros in the memory there is.
pub(super) fn refill<T: Clone + Default>(values: &mut Vec<T>, len: usize) {
    values.clear();
    values.resize(len, T::default());
}

impl Head {
    /// Codes the keys and values of a head, keeping the memory there is.
    pub(in crate::engine) fn load(&mut self, level: Level, keys: Rows<'_>, values: Rows<'_>) {
        (self.tokens, self.depth) = (keys.tokens, values.depth);
        self.load_keys(level, keys);
        self.load_values(level, values);
    }

    fn load_keys(&mut self, level: Level, keys: Rows<'_>) {
        let width = keys.depth.next_multiple_of(STEP);
        let panels = padded_panels(keys.tokens);
        refill(&mut self.keys, panels * PANEL * width);
        refill(&mut self.key_scales, panels * PANEL);
        refill(&mut self.key_sums, panels * PANEL);
        let means = keys.means(level);
        let mut codes = vec![0; width];
        for token in 0..keys.tokens {
            let (scale, sum) = code_row(level, keys.row(token), &means, &mut codes);
            (self.key_scales[token], self.key_sums[token]) = (scale, sum as f32);
            let start = token / PANEL * PANEL * width + token % PANEL * QUAD;
            let places = self.keys[start..].chunks_mut(PANEL * QUAD);
            for (place, quad) in places.zip(codes.chunks_exact(QUAD)) {
                place[..QUAD].copy_from_slice(quad);
            }
        }
    }

    fn load_values(&mut self, level: Level, values: Rows<'_>) {
        let (blocks, panels) = (values.tokens.div_ceil(BLOCK), padded_panels(values.depth));
        refill(&mut self.values, blocks * panels * PANEL * BLOCK);
        refill(&mut self.value_sums, blocks * panels * PANEL);
        self.value_means = values.means(level);
        let mut largest = vec![0.0_f32; values.depth];
        for token in 0..values.tokens {
            spread(level, values.row(token), &self.value_means, &mut largest);
        }
        self.value_scales = largest.iter().map(|largest| largest / 127.0).collect();
        let steps = |largest: &f32| if *largest > f32::MIN_POSITIVE { 127.0 / largest } else { 0.0 };
        let steps: Vec<f32> = largest.iter().map(steps).collect();
        let mut codes = vec![0_i8; values.depth];
        for token in 0..values.tokens {
            let (block, key) = (token / BLOCK, token % BLOCK);
            let size = self.block_width(block) * PANEL;
            code_channels(level, values.row(token), &self.value_means, &steps, &mut codes);
            let sums = &mut self.value_sums[block * panels * PANEL..];
            sums.iter_mut().zip(&codes).for_each(|(sum, code)| *sum += f32::from(*code));
            for (panel, codes) in codes.chunks(PANEL).enumerate() {
                let start =
                    block * panels * BLOCK * PANEL + panel * size + key / QUAD * PANEL * QUAD + key % QUAD;
                let places = self.values[start..].iter_mut().step_by(QUAD);
                places.zip(codes).for_each(|(place, code)| *place = *code);
            }
        }
    }

    /// Keys of a block, rounded up to whole steps.
    pub(super) fn block_width(&self, block: usize) -> usize {
        BLOCK.min(self.tokens - block * BLOCK).next_multiple_of(STEP)
    }
}

/// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
const MAGIC: f32 = 12_582_912.0;

versions! {
    /// Codes a row less the means, with one scale for it; returns that and the sum of the codes.
    fn code_row(values: &[f32], means: &[f32], codes: &mut [i8]) -> (f32, i32) {
        let ((panels, rest), (mean_panels, mean_rest)) = (values.as_chunks::<PANEL>(), means.as_chunks::<PANEL>());
        let mut lanes = [0.0_f32; PANEL];
        for (values, means) in panels.iter().zip(mean_panels) {
            for at in 0..PANEL {
                let size = (values[at] - means[at]).abs();
                lanes[at] = if size > lanes[at] { size } else { lanes[at] };
            }
        }
        let rest = rest.iter().zip(mean_rest).map(|(x, mean)| (x - mean).abs());
        let largest = rest.chain(lanes).fold(0.0_f32, f32::max);
        let steps = if largest > f32::MIN_POSITIVE { 127.0 / largest } else { 0.0 };
        let mut sum = 0;
        for ((code, x), mean) in codes.iter_mut().zip(values).zip(means) {
            let bits = ((x - mean) * steps + MAGIC).to_bits();
            *code = bits as i8;
            sum += i32::from(bits as i8);
        }
        (largest / 127.0, sum)
    }
}

versions! {
    /// The largest distance from its mean that each channel has had so far.
    fn spread(values: &[f32], means: &[f32], largest: &mut [f32]) {
        for ((largest, x), mean) in largest.iter_mut().zip(values).zip(means) {
            let size = (x - mean).abs();
            *largest = if size > *largest { size } else { *largest };
        }
    }
}

versions! {
    /// Codes a row less the means, each channel with its own scale.
    fn code_channels(values: &[f32], means: &[f32], steps: &[f32], codes: &mut [i8]) {
        for (((code, x), mean), steps) in codes.iter_mut().zip(values).zip(means).zip(steps) {
            *code = ((x - mean) * steps + MAGIC).to_bits() as i8;
        }
    }
}
