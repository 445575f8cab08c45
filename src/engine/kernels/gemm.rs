//! Rows times weights: convolutions and linear layers, tile by tile, over all threads.
//!
//! A tile is a few output rows by a pair of panels. For each tap of the filter it gathers its input rows where they
//! lie, adds the products, and at the end puts bias, residual and activation on top, so the output is written
//! once. Rows that fall into the padding are left out. A pair of panels stays in the second-level cache while it
//! meets the rows of a chunk.

use super::codes::{Codes, Unit};
use super::finish::{Epilogue, finish};
use super::float;
use super::{PANEL, ROWS_MAX, sums};
use crate::engine::pool::Pool;

/// Columns of a tile: two panels.
pub(in crate::engine) const PAIR: usize = 2 * PANEL;
/// Tiles whose gathered row numbers are kept while all panels pass by.
const CHUNK: usize = 16;
/// Stands for a row of padding.
const NONE: u32 = u32::MAX;

/// Which input row each tap of each output row reads. A linear layer is one tap on a picture one row high.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Geometry {
    pub(in crate::engine) batch: usize,
    /// Height and width of what is stored.
    pub(in crate::engine) input: [usize; 2],
    /// How often each stored row and column is read side by side: 2 where a nearest-neighbour upsampling is
    /// read in place.
    pub(in crate::engine) repeat: usize,
    pub(in crate::engine) output: [usize; 2],
    pub(in crate::engine) kernel: [usize; 2],
    pub(in crate::engine) stride: [usize; 2],
    /// Above and left.
    pub(in crate::engine) padding: [usize; 2],
}

impl Geometry {
    /// A linear layer over `rows` rows.
    pub(in crate::engine) fn linear(rows: usize) -> Geometry {
        let one = [1, 1];
        Geometry {
            batch: 1,
            input: [1, rows],
            repeat: 1,
            output: [1, rows],
            kernel: one,
            stride: one,
            padding: [0, 0],
        }
    }

    pub(in crate::engine) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(in crate::engine) fn output_rows(&self) -> usize {
        self.batch * self.output[0] * self.output[1]
    }

    pub(in crate::engine) fn input_rows(&self) -> usize {
        self.batch * self.input[0] * self.input[1]
    }

    /// The stored row under a tap of an output row, or [`NONE`] in the padding.
    fn source(&self, row: usize, tap: usize) -> u32 {
        let [height, width] = self.output;
        let at = [row / width % height, row % width];
        let tap = [tap / self.kernel[1], tap % self.kernel[1]];
        let mut found = row / (width * height);
        for axis in 0..2 {
            let place = at[axis] * self.stride[axis] + tap[axis];
            let Some(place) = place.checked_sub(self.padding[axis]) else {
                return NONE;
            };
            if place >= self.input[axis] * self.repeat {
                return NONE;
            }
            found = found * self.input[axis] + place / self.repeat;
        }
        found as u32
    }
}

/// Weights in panels: s8 with a scale per channel, or f32.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Panels<'a, W> {
    /// Inputs per tap as stored: whole steps for s8.
    pub(in crate::engine) inputs: usize,
    pub(in crate::engine) taps: usize,
    /// `[panel][tap][...]`, an even number of panels.
    pub(in crate::engine) weights: &'a [W],
    /// One per channel; empty for f32.
    pub(in crate::engine) scale: &'a [f32],
    /// Sum of the weights of each channel, `[panel][tap][16]`; empty for f32.
    pub(in crate::engine) sums: &'a [i32],
}

impl<W> Panels<'_, W> {
    /// Where a panel's weights of a tap begin.
    fn start(&self, panel: usize, tap: usize) -> usize {
        (panel * self.taps + tap) * self.inputs * PANEL
    }
}

/// Room for the integer sums of a tile.
pub(in crate::engine) type Scratch = [i32; ROWS_MAX * PAIR];

/// One kind of arithmetic: adds one tap's products to a tile.
pub(in crate::engine) trait Products: Sync {
    /// Output rows it takes at once.
    fn rows(&self) -> usize;
    /// `tile[row][pair of panels] += input rows * weights of the tap`; rows that are [`NONE`] add nothing.
    fn add(&self, rows: &[u32], tap: usize, panels: [usize; 2], tile: &mut [f32], sums: &mut Scratch);
}

/// Codes times s8 weights.
#[derive(Debug)]
pub(in crate::engine) struct IntProducts<'a> {
    pub(in crate::engine) unit: Unit,
    pub(in crate::engine) codes: &'a Codes,
    pub(in crate::engine) panels: Panels<'a, i8>,
}

impl Products for IntProducts<'_> {
    fn rows(&self) -> usize {
        self.unit.kernel.rows
    }

    fn add(&self, rows: &[u32], tap: usize, panels: [usize; 2], tile: &mut [f32], sums: &mut Scratch) {
        let Unit { kernel, level } = self.unit;
        let Codes { width, codes, scale, offset } = self.codes;
        // Padding reads some row, with a scale of 0.
        let mut sources: [&[u8]; ROWS_MAX] = [&codes[..*width]; ROWS_MAX];
        let mut scales = [0.0; ROWS_MAX];
        let mut offsets = [0.0; ROWS_MAX];
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| **row != NONE) {
            let row = *row as usize;
            sources[at] = &codes[row * width..][..*width];
            scales[at] = scale[row];
            offsets[at] = offset[row];
        }
        let starts = panels.map(|panel| self.panels.start(panel, tap));
        sums::fill(kernel, &sources[..rows.len()], self.panels.weights, &starts, sums, PAIR);
        let weight_sums =
            panels.map(|panel| &self.panels.sums[(panel * self.panels.taps + tap) * PANEL..][..PANEL]);
        let scales = [&scales[..rows.len()], &offsets[..rows.len()]];
        float::fold(level, tile, sums, kernel.excess(), scales, weight_sums);
    }
}

/// f32 rows times f32 weights, for layers whose weights the pack leaves in float.
#[derive(Debug)]
pub(in crate::engine) struct FloatProducts<'a> {
    pub(in crate::engine) unit: Unit,
    pub(in crate::engine) values: &'a [f32],
    pub(in crate::engine) panels: Panels<'a, f32>,
}

impl Products for FloatProducts<'_> {
    fn rows(&self) -> usize {
        4
    }

    fn add(&self, rows: &[u32], tap: usize, panels: [usize; 2], tile: &mut [f32], _: &mut Scratch) {
        const ZEROS: [f32; 4096] = [0.0; 4096];
        let inputs = self.panels.inputs;
        let long;
        let padding: &[f32] = if inputs <= ZEROS.len() {
            &ZEROS
        } else {
            long = vec![0.0; inputs];
            &long
        };
        let mut sources = [padding; 4];
        for (source, row) in sources.iter_mut().zip(rows).filter(|(_, row)| **row != NONE) {
            *source = &self.values[*row as usize * inputs..][..inputs];
        }
        for (at, panel) in panels.into_iter().enumerate() {
            let weights = &self.panels.weights[self.panels.start(panel, tap)..][..inputs * PANEL];
            float::dot(self.unit.level, tile, &sources[..rows.len()], weights, at * PANEL);
        }
    }
}

/// Computes `out`, rows of `channels` values.
pub(in crate::engine) fn run(
    pool: &Pool,
    unit: Unit,
    geometry: &Geometry,
    products: &impl Products,
    channels: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let rows = geometry.output_rows();
    let columns = if epilogue.gated { channels / 2 } else { channels };
    assert_eq!(out.len(), rows * columns);
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == out.len()));
    let pairs = if epilogue.gated { columns.div_ceil(PANEL) } else { columns.div_ceil(PAIR) };
    let tiles = rows.div_ceil(products.rows());
    // Rows are shared out where there are enough of them: every thread then meets all weights. Else panels are.
    let by_rows = tiles >= 8 * pool.threads();
    let work =
        Work { unit, geometry, products, columns, pairs, epilogue, out: Shared(out.as_mut_ptr(), out.len()) };
    pool.share(if by_rows { tiles } else { pairs }, |part| {
        if by_rows { work.run(part, 0..pairs) } else { work.run(0..tiles, part) }
    });
}

/// The output, of which every tile belongs to one thread.
struct Shared(*mut f32, usize);

// SAFETY: `Work::store` is the only use, and the parts that `run` shares out have no tile in common.
unsafe impl Sync for Shared {}

struct Work<'a, P> {
    unit: Unit,
    geometry: &'a Geometry,
    products: &'a P,
    columns: usize,
    pairs: usize,
    epilogue: &'a Epilogue<'a>,
    out: Shared,
}

impl<P: Products> Work<'_, P> {
    fn run(&self, tiles: std::ops::Range<usize>, pairs: std::ops::Range<usize>) {
        let (height, taps, rows) = (self.products.rows(), self.geometry.taps(), self.geometry.output_rows());
        let mut sources = Vec::new();
        let mut tile = [0.0; ROWS_MAX * PAIR];
        let mut sums = [0; ROWS_MAX * PAIR];
        for chunk in tiles.clone().step_by(CHUNK) {
            let chunk = chunk..tiles.end.min(chunk + CHUNK);
            sources.clear();
            for at in chunk.clone() {
                for tap in 0..taps {
                    let rows = (at * height..(at + 1) * height).map(|row| match row {
                        row if row < rows => self.geometry.source(row, tap),
                        _ => NONE,
                    });
                    sources.extend(rows);
                }
            }
            for pair in pairs.clone() {
                let panels =
                    if self.epilogue.gated { [pair, self.pairs + pair] } else { [2 * pair, 2 * pair + 1] };
                for (at, sources) in chunk.clone().zip(sources.chunks_exact(taps * height)) {
                    let count = height.min(rows - at * height);
                    let tile = &mut tile[..count * PAIR];
                    tile.fill(0.0);
                    for (tap, sources) in sources.chunks_exact(height).enumerate() {
                        if sources[..count].iter().any(|source| *source != NONE) {
                            self.products.add(&sources[..count], tap, panels, tile, &mut sums);
                        }
                    }
                    self.store(at * height, pair, tile);
                }
            }
        }
    }

    /// Finishes a tile and writes it.
    fn store(&self, first_row: usize, pair: usize, tile: &mut [f32]) {
        let width = if self.epilogue.gated { PANEL } else { PAIR };
        let column = pair * width;
        let count = width.min(self.columns - column);
        finish(self.unit.level, tile, self.epilogue, first_row, self.columns, column, count);
        for (row, values) in (first_row..).zip(tile.chunks_exact(PAIR)) {
            let at = row * self.columns + column;
            assert!(at + count <= self.out.1);
            // SAFETY: within the output, as just asserted; no other thread has this tile, and nobody reads the
            // output before `run` returns.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.0.add(at), count) };
            match <&mut [f32; PAIR]>::try_from(&mut *out) {
                // A length that the compiler knows makes two vectors of it, not a call.
                Ok(out) => out.copy_from_slice(values),
                Err(_) => out.copy_from_slice(&values[..count]),
            }
        }
    }
}
