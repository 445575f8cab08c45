//! What stands between the two products of attention, tile by tile.

use super::float::{Level, versions};
use super::head::BLOCK;
use super::math::{exp2, fma};
use super::{PANEL, ROWS_MAX};

versions! {
    /// Scores of a block from its sums, both in rows [`BLOCK`] apart, and the largest of each row:
    /// `score = key_scale * (scale * (sum - excess * key_sum) + offset * key_sum)`. From the last of `keys` to the end of
    /// its panel they are negative infinity. All integers here are below 2^24: nothing is rounded before the scales
    /// come in.
    fn scores(
        sums: &[i32],
        excess: f32,
        rows: &[[f32; 2]],
        keys_of: [&[f32]; 2],
        keys: usize,
        scores: &mut [f32],
        tops: &mut [f32; ROWS_MAX],
    ) {
        let rows = rows.iter().zip(sums.chunks(BLOCK)).zip(scores.chunks_mut(BLOCK));
        let [(key_scales, _), (key_sums, _)] = keys_of.map(<[f32]>::as_chunks::<PANEL>);
        for ((([scale, offset], sums), scores), top) in rows.zip(tops) {
            let mut largest = [f32::MIN; PANEL];
            let panels = scores.as_chunks_mut().0.iter_mut().zip(sums.as_chunks().0).take(keys.div_ceil(PANEL));
            for (panel, ((scores, sums), (key_scales, key_sums))) in
                panels.zip(key_scales.iter().zip(key_sums)).enumerate()
            {
                let (scores, sums): (&mut [f32; PANEL], &[i32; PANEL]) = (scores, sums);
                // Only the last panel may hold fewer keys.
                let held = (keys - panel * PANEL) as i32;
                let mut row = [0.0; PANEL];
                for at in 0..PANEL {
                    let sum = fma::<FMA>(-excess, key_sums[at], sums[at] as f32);
                    let score = key_scales[at] * fma::<FMA>(*scale, sum, offset * key_sums[at]);
                    row[at] = if (at as i32) < held { score } else { f32::NEG_INFINITY };
                }
                for at in 0..PANEL {
                    largest[at] = if row[at] > largest[at] { row[at] } else { largest[at] };
                }
                *scores = row;
            }
            *top = largest.iter().fold(f32::MIN, |a, b| a.max(*b));
        }
    }
}

versions! {
    /// Adds a mask, which counts in powers of e, to a row of scores, which count in powers of two; returns the largest.
    /// A row of nothing but masked keys has a largest score, too.
    fn with_mask(scores: &mut [f32], mask: &[f32]) -> f32 {
        let mut largest = f32::MIN;
        for (score, mask) in scores.iter_mut().zip(mask) {
            *score = fma::<FMA>(*mask, std::f32::consts::LOG2_E, *score);
            largest = if *score > largest { *score } else { largest };
        }
        largest
    }
}

versions! {
    /// Codes of `2 ^ (score - top)`, and what they stand for summed up.
    fn soften(scores: &[f32], top: f32, code_max: f32, code_zero: u8, codes: &mut [u8]) -> f32 {
        // Adding 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
        const MAGIC: f32 = 8_388_608.0;
        let code = |score: f32| fma::<FMA>(exp2::<FMA>(score - top), code_max, MAGIC).to_bits() & 0xff;
        let (panels, rest) = scores.as_chunks::<PANEL>();
        let (code_panels, code_rest) = codes.as_chunks_mut::<PANEL>();
        let mut lanes = [0; PANEL];
        for (scores, codes) in panels.iter().zip(code_panels) {
            for at in 0..PANEL {
                let bits = code(scores[at]);
                lanes[at] += bits;
                codes[at] = (bits as u8).wrapping_sub(code_zero);
            }
        }
        for ((score, to), lane) in rest.iter().zip(code_rest).zip(&mut lanes) {
            let bits = code(*score);
            *lane += bits;
            *to = (bits as u8).wrapping_sub(code_zero);
        }
        lanes.iter().sum::<u32>() as f32 / code_max
    }
}

versions! {
    /// `products = before * products + now * (sums + zero * weight_sums)`, row by row; rows of both lie a whole number of
    /// pairs of panels apart, of which the weight sums are the first panels.
    fn accumulate(
        sums: &[i32],
        factors: &[[f32; 2]],
        zero: f32,
        weight_sums: &[f32],
        products: &mut [f32],
    ) {
        let stride = weight_sums.len().next_multiple_of(2 * PANEL);
        for (([before, now], sums), products) in
            factors.iter().zip(sums.chunks(stride)).zip(products.chunks_mut(stride))
        {
            for ((product, sum), weight_sum) in products.iter_mut().zip(sums).zip(weight_sums) {
                let block = fma::<FMA>(zero, *weight_sum, *sum as f32);
                *product = fma::<FMA>(*before, *product, now * block);
            }
        }
    }
}
