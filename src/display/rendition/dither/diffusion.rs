//! Error diffusion: what a dot is off is given to the dots that come after it.

use super::Colours;
use crate::display::rendition::oklab::Linear;

/// Who gets how much: pixels ahead, rows below, share.
pub(super) type Kernel = &'static [(isize, usize, f32)];

/// Floyd and Steinberg, An Adaptive Algorithm for Spatial Grey Scale, 1976.
pub(super) const FLOYD_STEINBERG: Kernel =
    &[(1, 0, 7.0 / 16.0), (-1, 1, 3.0 / 16.0), (0, 1, 5.0 / 16.0), (1, 1, 1.0 / 16.0)];

/// Atkinson's of the Macintosh: six eighths.
pub(super) const ATKINSON: Kernel =
    &[(1, 0, 0.125), (2, 0, 0.125), (-1, 1, 0.125), (0, 1, 0.125), (1, 1, 0.125), (0, 2, 0.125)];

/// Stucki, MECCA, a multiple-error correcting computation algorithm for bilevel image hardcopy reproduction, 1981.
pub(super) const STUCKI: Kernel = &[
    (1, 0, 8.0 / 42.0),
    (2, 0, 4.0 / 42.0),
    (-2, 1, 2.0 / 42.0),
    (-1, 1, 4.0 / 42.0),
    (0, 1, 8.0 / 42.0),
    (1, 1, 4.0 / 42.0),
    (2, 1, 2.0 / 42.0),
    (-2, 2, 1.0 / 42.0),
    (-1, 2, 2.0 / 42.0),
    (0, 2, 4.0 / 42.0),
    (1, 2, 2.0 / 42.0),
    (2, 2, 1.0 / 42.0),
];

/// Most pixels ahead that a kernel reaches.
const REACH: usize = 2;
/// Rows that are open at a time.
const ROWS: usize = 3;
/// Light that a target may reach with what it was given: more is forgotten, so that no colour bleeds far.
const BOUNDS: (f32, f32) = (-0.5, 1.5);

/// Row by row, one to the right and the next to the left: all to one side draws worms.
pub(super) fn diffuse(targets: &[Linear], width: usize, kernel: Kernel, colours: &impl Colours) -> Vec<u16> {
    let mut dots = vec![0; targets.len()];
    let mut errors: [Vec<Linear>; ROWS] = std::array::from_fn(|_| vec![[0.0; 3]; width + 2 * REACH]);
    for (y, (targets, dots)) in targets.chunks_exact(width).zip(dots.chunks_exact_mut(width)).enumerate() {
        let back = y % 2 == 1;
        for step in 0..width {
            let x = if back { width - 1 - step } else { step };
            let given = errors[0][x + REACH];
            let wanted: Linear =
                [0, 1, 2].map(|channel| (targets[x][channel] + given[channel]).clamp(BOUNDS.0, BOUNDS.1));
            let (dot, light) = colours.nearest(wanted);
            dots[x] = dot;
            let off: Linear = [0, 1, 2].map(|channel| wanted[channel] - light[channel]);
            for &(ahead, below, share) in kernel {
                let ahead = if back { -ahead } else { ahead };
                let to = &mut errors[below][(x + REACH).wrapping_add_signed(ahead)];
                *to = [0, 1, 2].map(|channel| to[channel] + off[channel] * share);
            }
        }
        errors.rotate_left(1);
        errors[ROWS - 1].fill([0.0; 3]);
    }
    dots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_give_away_what_they_should() {
        for (kernel, sum) in [(FLOYD_STEINBERG, 1.0), (STUCKI, 1.0), (ATKINSON, 0.75)] {
            assert!((kernel.iter().map(|(_, _, share)| share).sum::<f32>() - sum).abs() < 1e-6);
            assert!(kernel.iter().all(|(ahead, below, _)| ahead.unsigned_abs() <= REACH && *below < ROWS));
            assert!(kernel.iter().all(|(ahead, below, _)| *below > 0 || *ahead > 0), "never backwards");
        }
    }
}
