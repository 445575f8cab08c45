//! Thresholds without a pattern: Ulichney's void-and-cluster (Proc. SPIE 1913, 1993) on a torus of 64 x 64, made once a process.

use std::sync::LazyLock;

/// Pixels of a side.
const SIDE: usize = 64;
/// Of the Gaussian that says how crowded a place is, pixels; Ulichney's choice.
const SIGMA: f64 = 1.5;
/// Where that Gaussian is nothing any more, pixels.
const REACH: isize = 8;
/// Dots of the first pattern.
const FIRST: usize = SIDE * SIDE / 10;

static RANKS: LazyLock<Vec<u16>> = LazyLock::new(ranks);

/// Above 0, below 1.
pub(super) fn threshold(x: usize, y: usize) -> f32 {
    let rank = RANKS[y % SIDE * SIDE + x % SIDE];
    (f32::from(rank) + 0.5) / (SIDE * SIDE) as f32
}

/// A pattern of dots, and how crowded each place is by them.
#[derive(Clone)]
struct Pattern {
    dots: Vec<bool>,
    crowd: Vec<f32>,
    gaussian: Vec<f32>,
}

impl Pattern {
    fn empty() -> Self {
        let width = 2 * REACH + 1;
        let offset = |at: isize| ((at % width - REACH).pow(2) + (at / width - REACH).pow(2)) as f64;
        let gaussian =
            (0..width * width).map(|at| libm::exp(-offset(at) / (2.0 * SIGMA * SIGMA)) as f32).collect();
        Self { dots: vec![false; SIDE * SIDE], crowd: vec![0.0; SIDE * SIDE], gaussian }
    }

    fn set(&mut self, place: usize, dot: bool) {
        self.dots[place] = dot;
        let sign = if dot { 1.0 } else { -1.0 };
        let around = |from: usize, by: usize| (from + SIDE + by - REACH as usize) % SIDE;
        let width = 2 * REACH as usize + 1;
        for down in 0..width {
            let row = around(place / SIDE, down) * SIDE;
            for across in 0..width {
                self.crowd[row + around(place % SIDE, across)] += sign * self.gaussian[down * width + across];
            }
        }
    }

    /// The most crowded dot.
    fn cluster(&self) -> usize {
        let dots = (0..SIDE * SIDE).filter(|place| self.dots[*place]);
        dots.max_by(|one, two| self.crowd[*one].total_cmp(&self.crowd[*two])).unwrap_or(0)
    }

    /// The least crowded place without a dot.
    fn void(&self) -> usize {
        let places = (0..SIDE * SIDE).filter(|place| !self.dots[*place]);
        places.min_by(|one, two| self.crowd[*one].total_cmp(&self.crowd[*two])).unwrap_or(0)
    }
}

fn ranks() -> Vec<u16> {
    let mut pattern = Pattern::empty();
    let mut random = 1u32;
    let mut count = 0;
    while count < FIRST {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let place = (random >> 20) as usize;
        if !pattern.dots[place] {
            pattern.set(place, true);
            count += 1;
        }
    }
    // Dots move from crowds to voids until one would move back.
    loop {
        let cluster = pattern.cluster();
        pattern.set(cluster, false);
        let void = pattern.void();
        pattern.set(void, true);
        if void == cluster {
            break;
        }
    }
    let mut ranks = vec![0; SIDE * SIDE];
    let mut fewer = pattern.clone();
    for rank in (0..FIRST).rev() {
        let cluster = fewer.cluster();
        fewer.set(cluster, false);
        ranks[cluster] = rank as u16;
    }
    for rank in FIRST..SIDE * SIDE {
        let void = pattern.void();
        pattern.set(void, true);
        ranks[void] = rank as u16;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_is_there_once_and_neighbours_differ() {
        let mut ranks = RANKS.clone();
        // White noise has neighbours a third apart in the mean; blue noise more.
        let apart: u64 = (0..SIDE * SIDE)
            .map(|place| {
                let right = place / SIDE * SIDE + (place + 1) % SIDE;
                u64::from(ranks[place].abs_diff(ranks[right]))
            })
            .sum();
        let mean = apart as f64 / ranks.len() as f64 / ranks.len() as f64;
        assert!(mean > 0.38, "{mean}");
        ranks.sort_unstable();
        assert!(ranks.iter().enumerate().all(|(index, rank)| index == usize::from(*rank)));
    }
}
