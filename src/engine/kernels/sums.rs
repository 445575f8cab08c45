//! The safe way to a kernel: checks what it asks for, and hides how many panels it takes at once.

use super::{Kernel, PANEL, QUAD, ROWS_MAX};

/// Integer sums of up to [`ROWS_MAX`] rows and two panels.
pub(super) struct Sums {
    values: [i32; ROWS_MAX * 2 * PANEL],
    /// From one row to the next: two panels where the kernel takes two at once, else one.
    stride: usize,
}

impl Sums {
    pub(super) fn new() -> Sums {
        Sums { values: [0; ROWS_MAX * 2 * PANEL], stride: 2 * PANEL }
    }

    /// Multiplies rows of codes by the two panels of `weights` that begin at `starts`.
    #[inline]
    pub(super) fn fill(&mut self, kernel: &Kernel, rows: &[&[u8]], weights: &[i8], starts: [usize; 2]) {
        let width = rows[0].len();
        assert!(rows.len() <= kernel.rows && kernel.rows <= ROWS_MAX && width.is_multiple_of(2 * QUAD));
        assert!(rows.iter().all(|row| row.len() == width));
        let [first, second] = starts;
        assert!(first <= second && second + width * PANEL <= weights.len(), "panels outside of the weights");
        let mut pointers = [rows[0].as_ptr(); ROWS_MAX];
        pointers.iter_mut().zip(rows).for_each(|(pointer, row)| *pointer = row.as_ptr());
        let pointers = &pointers[..rows.len()];
        self.stride = kernel.panels * PANEL;
        if kernel.panels == 2 {
            let panel = weights[first..].as_ptr();
            // SAFETY: `Isa::kernel` gives out kernels of this CPU only. Every row has `width` codes, an even number of
            // quads; both panels lie within `weights`, as just asserted; `values` has room for ROWS_MAX rows.
            unsafe { (kernel.dot)(pointers, width / QUAD, panel, second - first, self.values.as_mut_ptr()) };
            return;
        }
        let (lower, upper) = self.values.split_at_mut(ROWS_MAX * PANEL);
        for (start, values) in [(first, lower), (second, upper)] {
            let panel = weights[start..].as_ptr();
            // SAFETY: as above, for one panel.
            unsafe { (kernel.dot)(pointers, width / QUAD, panel, 0, values.as_mut_ptr()) };
        }
    }

    /// One panel's sums, from its first row on, and how far apart rows are.
    pub(super) fn panel(&self, panel: usize) -> (&[i32], usize) {
        let start = if self.stride == PANEL { panel * ROWS_MAX * PANEL } else { panel * PANEL };
        (&self.values[start..], self.stride)
    }
}
