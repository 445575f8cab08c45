//! The safe way to a kernel: checks what it asks for, and hides how many panels it takes at once.

use super::{Kernel, Out, PANEL, QUAD, ROWS_MAX, Weights};

/// Multiplies rows of codes by the panels of `weights` that begin at `starts`, one or two. Sums of a row begin
/// `stride` numbers after those of the row before, panels side by side.
#[inline]
pub(super) fn fill(
    kernel: &Kernel,
    rows: &[&[u8]],
    weights: &[i8],
    starts: &[usize],
    out: &mut [i32],
    stride: usize,
) {
    let width = rows[0].len();
    assert!(rows.len() <= kernel.rows && kernel.rows <= ROWS_MAX && width.is_multiple_of(2 * QUAD));
    assert!(rows.iter().all(|row| row.len() == width));
    assert!(out.len() >= (kernel.rows - 1) * stride + starts.len() * PANEL, "no room for the sums");
    assert!(
        starts.iter().all(|start| start + width * PANEL <= weights.len()),
        "panels outside of the weights"
    );
    let mut pointers = [rows[0].as_ptr(); ROWS_MAX];
    pointers.iter_mut().zip(rows).for_each(|(pointer, row)| *pointer = row.as_ptr());
    let pointers = &pointers[..rows.len()];
    let mut call = |panel: usize, first: usize, second: Option<usize>| {
        let weights = Weights { first: weights[first..].as_ptr(), second };
        let out = Out { sums: out[panel * PANEL..].as_mut_ptr(), stride };
        // SAFETY: `Isa::kernel` gives out kernels of this CPU only. Every row has `width` codes, an even number of
        // quads; the panels lie within `weights`, and `out` has room for every row that the kernel may take, as just
        // asserted (the last panel's sums end where `starts.len()` panels do).
        unsafe { (kernel.dot)(pointers, width / QUAD, weights, out) };
    };
    match starts {
        [first, second] if kernel.panels == 2 && first <= second => call(0, *first, Some(second - first)),
        _ => starts.iter().enumerate().for_each(|(panel, start)| call(panel, *start, None)),
    }
}
