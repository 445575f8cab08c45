//! The inks of a palette as colours of dots.

use super::Colours;
use crate::display::rendition::oklab::{Linear, Oklab, oklab};
use crate::display::rendition::palette::Palette;

/// How many dots a mixture has at most for thresholds.
const DOTS: usize = 16;

/// Inks that are compared at a time: what panels of colours have at most.
const LANES: usize = 8;
/// Further from every colour than any other is.
const NOWHERE: f32 = 1e3;

/// An ink as dithering needs it.
#[derive(Debug, Clone, Copy)]
struct Dot {
    index: u16,
    light: Linear,
    look: Oklab,
}

/// See the module.
#[derive(Debug)]
pub(in crate::display::rendition) struct Inks {
    /// The darkest first.
    dots: Vec<Dot>,
    /// Their looks by axis, [`LANES`] at a time: a processor compares several at once.
    looks: Vec<[[f32; LANES]; 3]>,
    gray: bool,
}

impl Inks {
    pub(in crate::display::rendition) fn new(palette: &Palette) -> Self {
        let lights = palette.linear();
        let mut dots: Vec<Dot> =
            (0..).zip(lights).map(|(index, light)| Dot { index, light, look: oklab(light) }).collect();
        dots.sort_by(|one, two| one.look[0].total_cmp(&two.look[0]));
        let look = |dots: &[Dot], axis: usize| {
            std::array::from_fn(|lane| dots.get(lane).map_or(NOWHERE, |dot| dot.look[axis]))
        };
        let looks = dots.chunks(LANES).map(|dots| [0, 1, 2].map(|axis| look(dots, axis))).collect();
        Self { dots, looks, gray: palette.is_gray() }
    }

    fn find(&self, light: Linear) -> &Dot {
        let look = oklab(light);
        if self.gray {
            // On a line the nearest is one of two neighbours.
            let above = self.dots.partition_point(|dot| dot.look[0] < look[0]).min(self.dots.len() - 1);
            let below = above.saturating_sub(1);
            let off = |at: usize| (self.dots[at].look[0] - look[0]).abs();
            return if off(above) < off(below) { &self.dots[above] } else { &self.dots[below] };
        }
        let mut best = (f32::INFINITY, 0);
        for (chunk, looks) in self.looks.iter().enumerate() {
            let distances: [f32; LANES] = std::array::from_fn(|lane| {
                let off = [0, 1, 2].map(|axis| looks[axis][lane] - look[axis]);
                off[0] * off[0] + off[1] * off[1] + off[2] * off[2]
            });
            for (lane, distance) in distances.into_iter().enumerate() {
                if distance < best.0 {
                    best = (distance, chunk * LANES + lane);
                }
            }
        }
        &self.dots[best.1]
    }

    /// Between two grays, in their share of light.
    fn mixed_gray(&self, light: Linear, threshold: f32) -> u16 {
        let sum = |light: Linear| light[0] + light[1] + light[2];
        let wanted = sum(light);
        let above = self.dots.partition_point(|dot| sum(dot.light) < wanted).clamp(1, self.dots.len() - 1);
        let (dark, bright) = (&self.dots[above - 1], &self.dots[above]);
        let share = (wanted - sum(dark.light)) / (sum(bright.light) - sum(dark.light));
        // A trace is none, so that paper stays paper.
        if share > threshold.clamp(0.001, 0.999) { bright.index } else { dark.index }
    }
}

impl Colours for Inks {
    #[inline]
    fn nearest(&self, light: Linear) -> (u16, Linear) {
        let dot = self.find(light);
        (dot.index, dot.light)
    }

    /// The dots of a mixture one after the other, each the nearest to what is still missing, then by lightness: Knoll's
    /// pattern dithering (US patent 6606166, expired 2019).
    fn mixed(&self, light: Linear, threshold: f32) -> u16 {
        if self.gray {
            return self.mixed_gray(light, threshold);
        }
        let mut missing = [0.0; 3];
        let mut chosen = [(0.0, 0); DOTS];
        for place in &mut chosen {
            let wanted = [0, 1, 2].map(|channel| light[channel] + missing[channel]);
            let dot = self.find(wanted);
            missing = [0, 1, 2].map(|channel| wanted[channel] - dot.light[channel]);
            *place = (dot.look[0], dot.index);
        }
        chosen.sort_by(|one, two| one.0.total_cmp(&two.0));
        // The last dots of the order are the bright ones, as with grays.
        chosen[((1.0 - threshold) * DOTS as f32).clamp(0.0, DOTS as f32 - 1.0) as usize].1
    }
}
