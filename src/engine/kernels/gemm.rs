//! Rows times weights: convolutions and linear layers, tile by tile, over all threads.
//!
//! A tile is a few output rows by a pair of panels. For each tap of the filter it gathers its input rows where they
//! lie, adds the products, and at the end puts bias, residual and activation on top, so the output is written
//! once. Rows that fall into the padding are left out. A pair of panels stays in the second-level cache while it
//! meets the rows of a chunk.

use super::codes::{Codes, Unit};
use super::finish::{Epilogue, finish};
use super::tap::{self, Tap, Tile};
use super::{PANEL, ROWS_MAX, float};
use crate::engine::pool::Pool;

/// Columns of a tile: two panels.
pub(in crate::engine) const PAIR: usize = 2 * PANEL;
/// Tiles whose gathered row numbers are kept while all panels pass by.
const CHUNK: usize = 16;
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

    /// For one axis, the stored place under each tap of each output place; nothing in the padding.
    fn places(&self, axis: usize) -> Vec<Option<u32>> {
        let taps = self.kernel[axis];
        let place = |at: usize| {
            let place = (at / taps * self.stride[axis] + at % taps).checked_sub(self.padding[axis])?;
            (place < self.input[axis] * self.repeat).then_some((place / self.repeat) as u32)
        };
        (0..self.output[axis] * taps).map(place).collect()
    }
}

/// The stored row under each tap of an output row; the row after the last one stands for padding.
struct Sources<'a> {
    geometry: &'a Geometry,
    down: Vec<Option<u32>>,
    across: Vec<Option<u32>>,
}

impl Sources<'_> {
    fn of(geometry: &Geometry) -> Sources<'_> {
        Sources { geometry, down: geometry.places(0), across: geometry.places(1) }
    }

    fn padding(&self) -> u32 {
        self.geometry.input_rows() as u32
    }

    /// Appends those of the output rows `rows`: `height` of them for each tap, padding beyond the end.
    fn gather(&self, rows: std::ops::Range<usize>, height: usize, into: &mut Vec<u32>) {
        let Geometry { input, output, kernel, .. } = *self.geometry;
        let start = into.len();
        into.resize(start + height * self.geometry.taps(), self.padding());
        for (at, row) in rows.enumerate() {
            let [line, x] = [row / output[1], row % output[1]];
            let first = (line / output[0] * input[0]) as u32;
            let down = &self.down[line % output[0] * kernel[0]..][..kernel[0]];
            let across = &self.across[x * kernel[1]..][..kernel[1]];
            let taps = down.iter().flat_map(|y| across.iter().map(move |x| y.zip(*x)));
            for (tap, place) in taps.enumerate() {
                if let Some((y, x)) = place {
                    into[start + tap * height + at] = (first + y) * input[1] as u32 + x;
                }
            }
        }
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

/// One kind of arithmetic: adds one tap's products to a tile.
pub(in crate::engine) trait Products: Sync {
    /// Output rows it takes at once.
    fn rows(&self) -> usize;
    /// `tile[row][panel] += input rows * weights of the tap`, one or two panels side by side; the `first` tap does
    /// not ask what was in the tile.
    fn add(&self, rows: &[u32], tap: usize, panels: &[usize], first: bool, tile: &mut Tile);
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

    fn add(&self, rows: &[u32], tap: usize, panels: &[usize], first: bool, tile: &mut Tile) {
        let mut starts = [0; 2];
        let mut sums = [&[0; PANEL]; 2];
        for (at, panel) in panels.iter().enumerate() {
            starts[at] = self.panels.start(*panel, tap);
            let of_panel = &self.panels.sums[(panel * self.panels.taps + tap) * PANEL..];
            sums[at] = of_panel.first_chunk().expect("the sums of a panel");
        }
        let starts = &starts[..panels.len()];
        let tap = Tap { codes: self.codes, rows, weights: self.panels.weights, starts, sums };
        tap::add(self.unit, &tap, first, tile);
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

    fn add(&self, rows: &[u32], tap: usize, panels: &[usize], first: bool, tile: &mut Tile) {
        const ZEROS: [f32; 4096] = [0.0; 4096];
        let inputs = self.panels.inputs;
        let long;
        let padding: &[f32] = if inputs <= ZEROS.len() {
            &ZEROS[..inputs]
        } else {
            long = vec![0.0; inputs];
            &long
        };
        let mut sources = [padding; 4];
        for (source, row) in sources.iter_mut().zip(rows) {
            *source = self
                .values
                .get(*row as usize * inputs..)
                .and_then(|rest| rest.get(..inputs))
                .unwrap_or(padding);
        }
        if first {
            tile.fill(0.0);
        }
        for (at, panel) in panels.iter().enumerate() {
            let weights = &self.panels.weights[self.panels.start(*panel, tap)..][..inputs * PANEL];
            float::dot(
                self.unit.level,
                &mut tile[..rows.len() * PAIR],
                &sources[..rows.len()],
                weights,
                at * PANEL,
            );
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
    let (sources, out) = (Sources::of(geometry), Shared(out.as_mut_ptr(), out.len()));
    let work = Work { unit, sources, products, columns, pairs, epilogue, out };
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
    sources: Sources<'a>,
    products: &'a P,
    columns: usize,
    pairs: usize,
    epilogue: &'a Epilogue<'a>,
    out: Shared,
}

impl<P: Products> Work<'_, P> {
    fn run(&self, tiles: std::ops::Range<usize>, pairs: std::ops::Range<usize>) {
        let geometry = self.sources.geometry;
        let (height, taps, rows) = (self.products.rows(), geometry.taps(), geometry.output_rows());
        let rows_of = |at: usize| at * height..rows.min((at + 1) * height);
        let mut sources = Vec::new();
        let mut tile = [0.0; ROWS_MAX * PAIR];
        for chunk in tiles.clone().step_by(CHUNK) {
            let chunk = chunk..tiles.end.min(chunk + CHUNK);
            sources.clear();
            for at in chunk.clone() {
                self.sources.gather(rows_of(at), height, &mut sources);
            }
            for pair in pairs.clone() {
                let (panels, count) = self.panels(pair);
                for (at, sources) in chunk.clone().zip(sources.chunks_exact(taps * height)) {
                    let rows = rows_of(at);
                    self.tile(sources, rows.len(), &panels[..count], &mut tile);
                    self.store(rows.start, pair, &mut tile[..rows.len() * PAIR]);
                }
            }
        }
    }

    /// The panels of a pair, of which the second may hold no channel.
    fn panels(&self, pair: usize) -> ([usize; 2], usize) {
        if self.epilogue.gated {
            return ([pair, self.pairs + pair], 2);
        }
        ([2 * pair, 2 * pair + 1], if pair * PAIR + PANEL < self.columns { 2 } else { 1 })
    }

    /// The products of one tile: `count` rows, `sources` for each tap.
    fn tile(&self, sources: &[u32], count: usize, panels: &[usize], tile: &mut Tile) {
        let padding = self.sources.padding();
        let mut first = true;
        for (tap, sources) in sources.chunks_exact(self.products.rows()).enumerate() {
            let sources = &sources[..count];
            if sources.iter().any(|source| *source != padding) {
                self.products.add(sources, tap, panels, first, tile);
                first = false;
            }
        }
        if first {
            tile.fill(0.0);
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
