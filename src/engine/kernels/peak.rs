//! How fast this CPU multiplies at best: what the shares in `easeld bench` are shares of.

use std::time::{Duration, Instant};

use super::{Isa, PANEL, ROWS_MAX, sums};

/// Inputs of a tile whose rows and panels stay in a first-level cache of 32 KiB.
const INPUTS: usize = 256;
const ROUND: Duration = Duration::from_millis(20);
const ROUNDS: usize = 5;

/// Multiplications with an addition per second, of one thread with the integer kernel of `isa` on a tile that stays in
/// the first-level cache; the best of a few short rounds.
///
/// # Panics
/// This CPU does not have `isa`.
pub fn dot_product_peak(isa: Isa) -> f64 {
    let kernel = isa.kernel().expect("an instruction set of this CPU");
    let codes = vec![1_u8; kernel.rows * INPUTS];
    let rows: Vec<&[u8]> = codes.chunks_exact(INPUTS).collect();
    let weights = vec![1_i8; 2 * PANEL * INPUTS];
    let mut out = [0; ROWS_MAX * 2 * PANEL];
    let mut round = || {
        let started = Instant::now();
        let mut tiles = 0.0;
        while started.elapsed() < ROUND {
            for _ in 0..100 {
                sums::fill(kernel, &rows, &weights, &[0, PANEL * INPUTS], &mut out, 2 * PANEL);
            }
            tiles += 100.0;
        }
        tiles * (kernel.rows * INPUTS * 2 * PANEL) as f64 / started.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
}
