//! A function of a colour, tabulated: what is done to every pixel costs the same however much it is.

use std::sync::LazyLock;

use super::compose::Canvas;
use super::oklab::{Linear, encode};

/// Steps along each side: the error of going straight between them is below what 8 bits show.
const SIDE: usize = 25;

/// Places along a side for each of 65536 steps of linear light, evenly spaced to the eye: whole steps and the rest in 256ths.
static PLACES: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let place = |light: u16| encode(f64::from(light) / 65535.0) * ((SIDE - 1) * 256) as f64;
    (0..=u16::MAX).map(|light| libm::round(place(light)) as u16).collect()
});

/// Values at `SIDE`^3 places.
pub(super) struct Cube(Vec<Linear>);

impl Cube {
    /// Of a function of linear light.
    pub(super) fn new(function: impl Fn(Linear) -> Linear) -> Self {
        let lights: [f32; SIDE] = std::array::from_fn(|step| {
            let value = step as f64 / (SIDE - 1) as f64;
            let light =
                if value <= 0.04045 { value / 12.92 } else { libm::pow((value + 0.055) / 1.055, 2.4) };
            light as f32
        });
        let mut values = Vec::with_capacity(SIDE * SIDE * SIDE);
        for red in lights {
            for green in lights {
                for blue in lights {
                    values.push(function([red, green, blue]));
                }
            }
        }
        Self(values)
    }

    /// The function for every pixel.
    pub(super) fn map(&self, canvas: &Canvas) -> Vec<Linear> {
        let places = &**PLACES;
        canvas.pixels.iter().map(|pixel| self.at(pixel.map(|light| places[usize::from(light)]))).collect()
    }

    /// Straight between the four corners of the tetrahedron that the colour is in (Sakamoto and Itooka 1981): grays, on the edge
    /// that all six share, stay grays.
    #[inline(always)]
    fn at(&self, place: [u16; 3]) -> Linear {
        let step = place.map(|place| usize::from(place >> 8));
        let rest = place.map(|place| f32::from(place & 255) / 256.0);
        let along =
            [0, 1, 2].map(|axis| if step[axis] + 1 < SIDE { [SIDE * SIDE, SIDE, 1][axis] } else { 0 });
        let mut order = [0, 1, 2];
        if rest[order[0]] < rest[order[1]] {
            order.swap(0, 1);
        }
        if rest[order[1]] < rest[order[2]] {
            order.swap(1, 2);
        }
        if rest[order[0]] < rest[order[1]] {
            order.swap(0, 1);
        }
        let mut at = (step[0] * SIDE + step[1]) * SIDE + step[2];
        let [high, middle, low] = order.map(|axis| rest[axis]);
        let weights = [1.0 - high, high - middle, middle - low, low];
        let mut value = self.0[at].map(|light| light * weights[0]);
        for (axis, weight) in order.into_iter().zip(&weights[1..]) {
            at += along[axis];
            let corner = self.0[at];
            value = [0, 1, 2].map(|channel| value[channel] + corner[channel] * weight);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::oklab::{linear_16, oklab};
    use super::*;

    #[test]
    fn a_tabulated_function_is_nearly_the_function() {
        let cube = Cube::new(|light| light);
        let mut worst = 0.0f32;
        for value in 0..4096u32 {
            let pixel = [value as u8, (value / 16 * 7) as u8, (value >> 4) as u8];
            let canvas = Canvas { width: 1, height: 1, pixels: vec![linear_16(pixel)] };
            let exact = oklab(canvas.pixels[0].map(|light| f32::from(light) / 65535.0));
            let found = oklab(cube.map(&canvas)[0]);
            worst = exact.iter().zip(found).map(|(one, two)| (one - two).abs()).fold(worst, f32::max);
        }
        assert!(worst < 0.01, "{worst}");
    }

    #[test]
    fn corners_are_exact() {
        let cube = Cube::new(|light| light);
        let canvas = Canvas { width: 2, height: 1, pixels: vec![[0; 3], [65535; 3]] };
        assert_eq!(cube.map(&canvas), [[0.0; 3], [1.0; 3]]);
    }
}
