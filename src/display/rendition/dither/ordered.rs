//! Thresholds by place: each dot is set for itself, so pictures that are alike in a place stay alike there.

use super::Colours;
use crate::display::rendition::oklab::Linear;

/// Sets each dot by `threshold` at its place.
pub(super) fn ordered(
    targets: &[Linear],
    width: usize,
    threshold: impl Fn(usize, usize) -> f32,
    colours: &impl Colours,
) -> Vec<u16> {
    let places = (0..).flat_map(|y| (0..width).map(move |x| (x, y)));
    targets.iter().zip(places).map(|(target, (x, y))| colours.mixed(*target, threshold(x, y))).collect()
}

/// Bayer's matrix of 8 x 8 (IEEE ICC 1973): the bits of `x ^ y` and `y` in turns, the lowest on top.
pub(super) fn bayer(x: usize, y: usize) -> f32 {
    let (mix, y) = ((x ^ y) & 7, y & 7);
    let rank = (0..3).fold(0, |rank, bit| rank << 2 | (mix >> bit & 1) << 1 | (y >> bit & 1));
    (rank as f32 + 0.5) / 64.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bayers_matrix_has_every_rank_once_and_begins_as_published() {
        let mut ranks: Vec<usize> =
            (0..64).map(|place| (bayer(place % 8, place / 8) * 64.0) as usize).collect();
        assert_eq!(ranks[..8], [0, 32, 8, 40, 2, 34, 10, 42]);
        assert_eq!(ranks[8..12], [48, 16, 56, 24]);
        ranks.sort_unstable();
        assert_eq!(ranks, (0..64).collect::<Vec<_>>());
    }
}
