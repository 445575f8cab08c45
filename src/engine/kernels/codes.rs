//! Rows of activations as one-byte codes: what integer kernels read.

use super::float::{self, Level};
use super::{Isa, Kernel, STEP};

/// What the kernels of one run share: the instruction set in its two parts.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Unit {
    pub(in crate::engine) kernel: &'static Kernel,
    pub(in crate::engine) level: Level,
}

impl Unit {
    /// The kernels of `isa`, which this CPU has to support.
    pub(in crate::engine) fn of(isa: Isa) -> Unit {
        Unit { kernel: isa.kernel().expect("an instruction set of this CPU"), level: Level::of(isa) }
    }
}

/// Rows `x = scale * (code - centre) + offset`, each with its own scale and offset, so that a row of small numbers keeps its
/// precision beside one of large numbers, and that an activation's lopsided range uses all codes.
#[derive(Debug, Default)]
pub(in crate::engine) struct Codes {
    /// Bytes per row: the number of inputs rounded up to whole steps; what is beyond meets weights of 0.
    pub(in crate::engine) width: usize,
    pub(in crate::engine) codes: Vec<u8>,
    /// The row after the last one stands for padding: scale and offset are 0.
    pub(in crate::engine) scale: Vec<f32>,
    pub(in crate::engine) offset: Vec<f32>,
}

impl Codes {
    /// Makes room for `rows` rows of `inputs` values, keeping the memory there is.
    pub(in crate::engine) fn resize(&mut self, rows: usize, inputs: usize) {
        self.width = inputs.next_multiple_of(STEP);
        self.codes.resize((rows + 1) * self.width, 0);
        for values in [&mut self.scale, &mut self.offset] {
            values.resize(rows + 1, 0.0);
            values[rows] = 0.0;
        }
    }

    /// Runs of at most `rows` rows, to be written at the same time.
    pub(in crate::engine) fn parts(&mut self, rows: usize) -> Vec<CodesPart<'_>> {
        let (width, all) = (self.width, self.scale.len() - 1);
        let codes = self.codes[..all * width].chunks_mut(rows * width);
        let scales = self.scale[..all].chunks_mut(rows).zip(self.offset[..all].chunks_mut(rows));
        let parts = codes.zip(scales).enumerate();
        parts
            .map(|(at, (codes, (scale, offset)))| CodesPart { first: at * rows, width, codes, scale, offset })
            .collect()
    }
}

/// Some rows of [`Codes`].
pub(in crate::engine) struct CodesPart<'a> {
    /// The number of the first one.
    pub(in crate::engine) first: usize,
    width: usize,
    codes: &'a mut [u8],
    scale: &'a mut [f32],
    offset: &'a mut [f32],
}

impl CodesPart<'_> {
    pub(in crate::engine) fn rows(&self) -> usize {
        self.scale.len()
    }

    /// Codes `values` as row `row` of this part.
    pub(in crate::engine) fn encode(&mut self, unit: Unit, row: usize, values: &[f32]) {
        let codes = &mut self.codes[row * self.width..][..values.len()];
        (self.scale[row], self.offset[row]) = encode_row(unit, values, codes);
    }
}

/// Writes one row's codes and returns its scale and offset.
pub(in crate::engine) fn encode_row(unit: Unit, values: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let (least, largest) = float::range(unit.level, values);
    let most = f32::from(unit.kernel.code_max);
    let scale = (largest - least) / most;
    // A constant row: all codes count for nothing. The least normal number guards the division, too.
    let steps = if scale > f32::MIN_POSITIVE { scale.recip() } else { 0.0 };
    float::encode(unit.level, values, least, steps, unit.kernel.code_zero, codes);
    (scale, least + unit.kernel.centre() as f32 * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_for_values_within_half_a_step() {
        for unit in Isa::supported().into_iter().map(Unit::of) {
            for values in [vec![-0.2, 0.0, 3.1, 1.7, 0.01], vec![4.0; 9], vec![0.0; 3], vec![-1e-30, 1e-30]] {
                let mut codes = vec![0; values.len()];
                let (scale, offset) = encode_row(unit, &values, &mut codes);
                for (value, code) in values.iter().zip(&codes) {
                    let signed = unit.kernel.code_zero != 0;
                    let stored = if signed { i32::from(*code as i8) } else { i32::from(*code) };
                    let code = (stored - unit.kernel.excess()) as f32;
                    let error = (scale * code + offset - value).abs();
                    assert!(error <= scale * 0.501 + 1e-6, "{:?}: {value} off by {error}", unit.kernel.isa);
                }
            }
        }
    }
}
