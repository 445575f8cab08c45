//! The integer kernels of aarch64 by themselves, for `benches/llvm-mca/run`: what `src/engine/kernels/mod.rs` gives them,
//! and the kernels' own files.

#![allow(dead_code, reason = "only the assembly of the kernels is wanted")]


pub const PANEL: usize = 16;
pub const QUAD: usize = 4;

#[derive(Debug, Clone, Copy)]
pub enum Isa {
    Neon,
    Dotprod,
    I8mm,
}

#[derive(Debug)]
pub struct Kernel {
    pub isa: Isa,
    pub rows: usize,
    pub panels: usize,
    pub code_max: u8,
    pub code_zero: u8,
    pub dot: unsafe fn(rows: &[*const u8], quads: usize, weights: Weights, out: Out),
}

#[derive(Debug, Clone, Copy)]
pub struct Weights {
    pub first: *const i8,
    pub second: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub struct Out {
    pub sums: *mut i32,
    pub stride: usize,
}

macro_rules! by_rows {
    ($rows:expr, [$($count:literal),*], $array:ident => $call:expr) => {{
        let rows: &[*const u8] = $rows;
        let last = rows.len() - 1;
        $(if rows.len() <= $count {
            let $array: [*const u8; $count] = std::array::from_fn(|row| rows[row.min(last)]);
            return $call;
        })*
        unreachable!("a tile of {} rows", rows.len())
    }};
}
use by_rows;

#[path = "../../src/engine/kernels/dotprod.rs"]
mod dotprod;
#[path = "../../src/engine/kernels/i8mm.rs"]
mod i8mm;
#[path = "../../src/engine/kernels/neon.rs"]
mod neon;

/// Reached from outside, so that the compiler keeps them.
pub static KERNELS: [&Kernel; 3] = [&neon::KERNEL, &dotprod::KERNEL, &i8mm::KERNEL];

