//! What stands between layers and could not be taken into one.

use super::Machine;
use crate::engine::kernels::float;
use crate::engine::lower::{Expr, Meaning, Two};

/// The expression of every value.
pub(in crate::engine) fn map(machine: &Machine, expr: &Expr, input: &[f32], out: &mut [f32]) {
    let meaning = expr.meaning();
    machine.pool.each(machine.pool.rows(out, 1), |(first, out)| {
        let input = &input[first..first + out.len()];
        match meaning {
            Meaning::Activation(activation) => {
                out.copy_from_slice(input);
                float::activate(machine.unit.level, activation, out);
            }
            Meaning::Gain(gain) => out.iter_mut().zip(input).for_each(|(out, x)| *out = x * gain as f32),
            Meaning::Other => {
                out.iter_mut().zip(input).for_each(|(out, x)| *out = expr.at(f64::from(*x)) as f32)
            }
        }
    });
}

/// Two buffers of one layout.
pub(in crate::engine) fn binary(machine: &Machine, two: Two, a: &[f32], b: &[f32], out: &mut [f32]) {
    machine.pool.each(machine.pool.rows(out, 1), |(first, out)| {
        let (a, b) = (&a[first..first + out.len()], &b[first..first + out.len()]);
        out.copy_from_slice(a);
        let pairs = out.iter_mut().zip(b);
        match two {
            Two::Add => float::add(machine.unit.level, out, b),
            Two::Mul => float::multiply(machine.unit.level, out, b),
            Two::Sub => pairs.for_each(|(out, b)| *out -= b),
            Two::Div => pairs.for_each(|(out, b)| *out /= b),
            Two::Max => pairs.for_each(|(out, b)| *out = out.max(*b)),
            Two::Min => pairs.for_each(|(out, b)| *out = out.min(*b)),
        }
    });
}
