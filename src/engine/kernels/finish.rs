//! What stands on top of a convolution or a linear layer, in one pass over each tile before it is written.

use super::PANEL;
use super::float::{Activation, Level, each, versions};
use super::gemm::PAIR;
use super::math::fma;

/// What is put on top of the products before they are written.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Epilogue<'a> {
    /// One per channel, whole pairs of panels, or empty for 1.
    pub(in crate::engine) scale: &'a [f32],
    /// One per channel, whole pairs of panels, or empty for 0.
    pub(in crate::engine) bias: &'a [f32],
    /// Rows of further biases, one for every so many output rows: the time embedding, one row per picture.
    pub(in crate::engine) row_bias: Option<(&'a [f32], usize)>,
    pub(in crate::engine) activation: Activation,
    /// The second half of the channels, through the activation, multiplies the first.
    pub(in crate::engine) gated: bool,
    /// Rows to add, laid out as the output.
    pub(in crate::engine) residual: Option<&'a [f32]>,
}

versions! {
    /// Finishes a tile, rows of [`PAIR`] products: what goes to `count` columns from `column` on of the rows from
    /// `first_row` on stands at the beginning of its rows then. The output has `columns` columns.
    fn finish(
        tile: &mut [f32],
        epilogue: &Epilogue<'_>,
        first_row: usize,
        columns: usize,
        column: usize,
        count: usize,
    ) {
        // Lengths that the compiler knows for all but the last columns.
        match (epilogue.gated, count) {
            (false, PAIR) => rows::<FMA>(tile, epilogue, first_row, columns, column, PAIR),
            (false, _) => rows::<FMA>(tile, epilogue, first_row, columns, column, count),
            (true, PANEL) => gated_rows::<FMA>(tile, epilogue, first_row, columns, column, PANEL),
            (true, _) => gated_rows::<FMA>(tile, epilogue, first_row, columns, column, count),
        }
    }
}

#[inline(always)]
fn rows<const FMA: bool>(
    tile: &mut [f32],
    epilogue: &Epilogue<'_>,
    first_row: usize,
    columns: usize,
    column: usize,
    count: usize,
) {
    let part = |values: &[f32], missing: f32| match values.get(column..column + PAIR) {
        Some(part) => part.try_into().expect("a pair of panels"),
        None => [missing; PAIR],
    };
    let (scale, bias) = (part(epilogue.scale, 1.0), part(epilogue.bias, 0.0));
    for (row, values) in (first_row..).zip(tile.chunks_exact_mut(PAIR)) {
        for ((value, scale), bias) in values.iter_mut().zip(&scale).zip(&bias) {
            *value = fma::<FMA>(*value, *scale, *bias);
        }
        let values = &mut values[..count];
        if let Some((biases, every)) = epilogue.row_bias {
            plus(values, &biases[row / every * columns + column..][..count]);
        }
        each::<FMA>(epilogue.activation, values);
        if let Some(residual) = epilogue.residual {
            plus(values, &residual[row * columns + column..][..count]);
        }
    }
}

#[inline(always)]
fn gated_rows<const FMA: bool>(
    tile: &mut [f32],
    epilogue: &Epilogue<'_>,
    first_row: usize,
    columns: usize,
    column: usize,
    count: usize,
) {
    let part = |values: &[f32], column: usize, missing: f32| match values.get(column..column + PANEL) {
        Some(part) => part.try_into().expect("a panel"),
        None => [missing; PANEL],
    };
    let [scale, gate_scale] = [column, columns + column].map(|at| part(epilogue.scale, at, 1.0));
    let [bias, gate_bias] = [column, columns + column].map(|at| part(epilogue.bias, at, 0.0));
    for (row, values) in (first_row..).zip(tile.chunks_exact_mut(PAIR)) {
        let (values, gate) = values.split_at_mut(PANEL);
        for ((gate, scale), bias) in gate.iter_mut().zip(&gate_scale).zip(&gate_bias) {
            *gate = fma::<FMA>(*gate, *scale, *bias);
        }
        each::<FMA>(epilogue.activation, gate);
        for (((value, gate), scale), bias) in values.iter_mut().zip(gate).zip(&scale).zip(&bias) {
            *value = fma::<FMA>(*value, *scale, *bias) * *gate;
        }
        if let Some(residual) = epilogue.residual {
            plus(&mut values[..count], &residual[row * columns + column..][..count]);
        }
    }
}

#[inline(always)]
fn plus(values: &mut [f32], other: &[f32]) {
    values.iter_mut().zip(other).for_each(|(value, other)| *value += other);
}
