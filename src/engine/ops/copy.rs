//! Elements moved from one layout to another: where no operation can read them as they lie.

use super::Machine;
use crate::engine::lower::{Atom, View};

/// Copies the elements of `from`'s view into `to`'s places, which both have the same axes.
pub(in crate::engine) fn copy(machine: &Machine, source: &[f32], from: &View, out: &mut [f32], to: &View) {
    let mut steps = common_steps(from, to);
    // The places written last to first, so that the innermost loop writes neighbours.
    steps.sort_by_key(|[_, to]| std::cmp::Reverse(to.stride));
    let Some(([first_from, first_to], inner)) = steps.split_first() else {
        out[to.offset] = source[from.offset];
        return;
    };
    // The outermost step is shared out where its parts are pieces of the output one after the other.
    let one_after_the_other = to.offset == 0 && first_to.size * first_to.stride == out.len();
    if !one_after_the_other {
        nested(source, from.offset, out, to.offset, &steps);
        return;
    }
    machine.pool.each(machine.pool.rows(out, first_to.stride), |(first, part)| {
        for (at, part) in part.chunks_exact_mut(first_to.stride).enumerate() {
            nested(source, from.offset + (first + at) * first_from.stride, part, 0, inner);
        }
    });
}

fn nested(source: &[f32], from: usize, out: &mut [f32], to: usize, steps: &[[Atom; 2]]) {
    match steps {
        [] => out[to] = source[from],
        [[a, b]] if a.stride == 1 && b.stride == 1 => {
            out[to..to + b.size].copy_from_slice(&source[from..from + a.size]);
        }
        [[a, b]] => (0..a.size).for_each(|at| out[to + at * b.stride] = source[from + at * a.stride]),
        [[a, b], inner @ ..] => {
            (0..a.size).for_each(|at| nested(source, from + at * a.stride, out, to + at * b.stride, inner));
        }
    }
}

/// The atoms of both views, split until they go together.
fn common_steps(from: &View, to: &View) -> Vec<[Atom; 2]> {
    let mut steps = Vec::new();
    for (from, to) in from.axes.iter().zip(&to.axes) {
        let (mut from, mut to) = (from.clone(), to.clone());
        while let (Some(a), Some(b)) = (from.pop(), to.pop()) {
            // The inner part that both share; sizes divide each other, as both come from the same axes.
            let size = a.size.min(b.size);
            steps.push([Atom { size, stride: a.stride }, Atom { size, stride: b.stride }]);
            let outer = |atom: Atom| Atom { size: atom.size / size, stride: atom.stride * size };
            if a.size > size {
                from.push(outer(a));
            }
            if b.size > size {
                to.push(outer(b));
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::Isa;
    use crate::engine::kernels::codes::Unit;
    use crate::engine::pool::Pool;

    #[test]
    fn planes_become_rows_and_upsampled_rows_are_repeated() {
        let machine = Machine { pool: Pool::new(2), unit: Unit::of(Isa::Scalar) };
        let planes: Vec<f32> = (0..24).map(|at| at as f32).collect(); // [2, 3, 2, 2]
        let from = View::row_major(0, &[2, 3, 2, 2]).moved(1, 3).moved(3, 1).repeated(2);
        let to = View::row_major(0, &[2, 4, 4, 3]).moved(3, 1);
        let mut out = vec![0.0; 96];
        copy(&machine, &planes, &from, &mut out, &to);
        for (at, value) in out.into_iter().enumerate() {
            let (n, y, x, c) = (at / 48, at / 12 % 4, at / 3 % 4, at % 3);
            assert_eq!(value, (n * 12 + c * 4 + y / 2 * 2 + x / 2) as f32);
        }
    }
}
