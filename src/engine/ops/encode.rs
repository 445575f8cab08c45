//! Rows of f32 into codes, where no norm does it on the way.

use super::Machine;
use crate::engine::kernels::codes::Codes;

/// Codes rows of `width` values.
pub(in crate::engine) fn encode(machine: &Machine, values: &[f32], width: usize, codes: &mut Codes) {
    let rows = values.len() / width;
    codes.resize(rows, width);
    let parts = codes.parts(rows.div_ceil(machine.pool.threads()).max(1));
    machine.pool.each(parts, |mut part| {
        for row in 0..part.rows() {
            let values = &values[(part.first + row) * width..][..width];
            part.encode(machine.unit, row, values);
        }
    });
}
