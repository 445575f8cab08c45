//! Which colours a panel can mix: the hull of its inks in linear light, and the nearest point of it to a colour outside.
//!
//! Dots beside each other add up in linear light, so an area can have any colour between the inks and no other. A target outside would
//! leave an error that no later dot can pay back, so it is moved to the hull before dots are set. Near means near in OKLab, to
//! first order: the space is stretched by OKLab's derivative at the colour, and distances there are Euclidean.

use super::oklab::{Linear, cones, cube_roots, opponents};

/// A plane is outside of nothing within this distance, in linear light: inks on one line or plane are no facets.
const FLAT: f32 = 1e-5;
/// Cones' responses below this count as this: OKLab's slope has no bound at black.
const DARKEST: f32 = 0.002;

/// Palettes with more inks than this, but for grays, mix nearly everything: their hull is not worth the triangles.
const INKS_MAX: usize = 16;

/// The hull of the inks.
#[derive(Debug, Clone)]
pub(super) struct Gamut {
    inks: Vec<Linear>,
    /// Triangles of inks, with their outward normal where there is an inside.
    facets: Vec<([usize; 3], Option<Linear>)>,
    /// The ends of all inks on one line.
    line: Option<(usize, usize)>,
}

fn minus(one: Linear, two: Linear) -> Linear {
    [one[0] - two[0], one[1] - two[1], one[2] - two[2]]
}

fn dot(one: Linear, two: Linear) -> f32 {
    one[0] * two[0] + one[1] * two[1] + one[2] * two[2]
}

fn cross(one: Linear, two: Linear) -> Linear {
    [one[1] * two[2] - one[2] * two[1], one[2] * two[0] - one[0] * two[2], one[0] * two[1] - one[1] * two[0]]
}

fn along(from: Linear, to: Linear, share: f32) -> Linear {
    [0, 1, 2].map(|axis| from[axis] + (to[axis] - from[axis]) * share)
}

impl Gamut {
    /// Of `inks` in linear light; `gray` where all are grays, which are then one line whatever their tint.
    pub(super) fn new(inks: Vec<Linear>, gray: bool) -> Self {
        let everything = !gray && inks.len() > INKS_MAX;
        let facets = if gray || everything { Vec::new() } else { facets(&inks) };
        let line = (facets.is_empty() && !everything).then(|| {
            let sum = |ink: &usize| inks[*ink].iter().sum::<f32>();
            let mut order: Vec<usize> = (0..inks.len()).collect();
            order.sort_by(|one, two| sum(one).total_cmp(&sum(two)));
            (order[0], order[order.len() - 1])
        });
        Self { inks, facets, line }
    }

    /// The colour nearest to `light` that the inks can mix.
    pub(super) fn nearest(&self, light: Linear) -> Linear {
        let inside = |(facet, normal): &([usize; 3], Option<Linear>)| {
            normal.is_some_and(|normal| dot(minus(light, self.inks[facet[0]]), normal) <= 0.0)
        };
        if self.line.is_none() && self.facets.iter().all(inside) {
            return light;
        }
        // The slope at the colour itself, then half way to what was found.
        let mut found = self.project(light, light);
        for _ in 0..2 {
            found = self.project(light, along(light, found, 0.5));
        }
        found
    }

    fn project(&self, light: Linear, slope_at: Linear) -> Linear {
        let slope = slope(slope_at);
        let stretch = |colour: Linear| slope.map(|row| dot(row, colour));
        let target = stretch(light);
        if let Some((dark, bright)) = self.line {
            let share = on_segment(target, stretch(self.inks[dark]), stretch(self.inks[bright]));
            return along(self.inks[dark], self.inks[bright], share);
        }
        let mut best = (f32::INFINITY, light);
        for (facet, normal) in &self.facets {
            let [a, b, c] = facet.map(|ink| self.inks[ink]);
            if normal.is_some_and(|normal| dot(minus(light, a), normal) <= 0.0) {
                continue; // Turned away: the nearest point is on another one.
            }
            let [wa, wb, wc] = on_triangle(target, [a, b, c].map(stretch));
            let point = [0, 1, 2].map(|axis| wa * a[axis] + wb * b[axis] + wc * c[axis]);
            let off = minus(target, stretch(point));
            let distance = dot(off, off);
            if distance < best.0 {
                best = (distance, point);
            }
        }
        best.1
    }
}

/// Triples of inks that all others are on one side of, or on.
fn facets(inks: &[Linear]) -> Vec<([usize; 3], Option<Linear>)> {
    let mut found = Vec::new();
    for first in 0..inks.len() {
        for second in first + 1..inks.len() {
            for third in second + 1..inks.len() {
                let (a, b, c) = (inks[first], inks[second], inks[third]);
                let normal = cross(minus(b, a), minus(c, a));
                let length = dot(normal, normal).sqrt();
                if length < FLAT {
                    continue;
                }
                let normal = normal.map(|axis| axis / length);
                let heights = inks.iter().map(|ink| dot(minus(*ink, a), normal));
                let (below, above) = heights.fold((0.0f32, 0.0f32), |(b, a), h| (b.min(h), a.max(h)));
                match (below < -FLAT, above > FLAT) {
                    (true, true) => {}
                    (true, false) => found.push(([first, second, third], Some(normal))),
                    (false, true) => found.push(([first, second, third], Some(normal.map(|axis| -axis)))),
                    (false, false) => found.push(([first, second, third], None)),
                }
            }
        }
    }
    found
}

/// OKLab's derivative by linear light, as rows.
fn slope(light: Linear) -> [Linear; 3] {
    let roots = cube_roots(cones(light).map(|response| response.max(DARKEST)));
    let by_cone = roots.map(|root| 1.0 / (3.0 * root * root));
    let columns = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|axis| {
        let cones = cones(axis);
        opponents([0, 1, 2].map(|cone| cones[cone] * by_cone[cone]))
    });
    [0, 1, 2].map(|row| columns.map(|column| column[row]))
}

/// How far from `from` to `to` the nearest point to `point` is, 0 to 1.
fn on_segment(point: Linear, from: Linear, to: Linear) -> f32 {
    let way = minus(to, from);
    (dot(minus(point, from), way) / dot(way, way).max(1e-12)).clamp(0.0, 1.0)
}

/// Barycentric coordinates of the nearest point of a triangle (Ericson, Real-Time Collision Detection, 5.1.5).
fn on_triangle(point: Linear, [a, b, c]: [Linear; 3]) -> [f32; 3] {
    let (ab, ac) = (minus(b, a), minus(c, a));
    let ap = minus(point, a);
    let (d1, d2) = (dot(ab, ap), dot(ac, ap));
    if d1 <= 0.0 && d2 <= 0.0 {
        return [1.0, 0.0, 0.0];
    }
    let bp = minus(point, b);
    let (d3, d4) = (dot(ab, bp), dot(ac, bp));
    if d3 >= 0.0 && d4 <= d3 {
        return [0.0, 1.0, 0.0];
    }
    let vc = d1 * d4 - d3 * d2;
    if vc <= 0.0 && d1 >= 0.0 && d3 <= 0.0 {
        let v = d1 / (d1 - d3);
        return [1.0 - v, v, 0.0];
    }
    let cp = minus(point, c);
    let (d5, d6) = (dot(ab, cp), dot(ac, cp));
    if d6 >= 0.0 && d5 <= d6 {
        return [0.0, 0.0, 1.0];
    }
    let vb = d5 * d2 - d1 * d6;
    if vb <= 0.0 && d2 >= 0.0 && d6 <= 0.0 {
        let w = d2 / (d2 - d6);
        return [1.0 - w, 0.0, w];
    }
    let va = d3 * d6 - d5 * d4;
    if va <= 0.0 && d4 - d3 >= 0.0 && d5 - d6 >= 0.0 {
        let w = (d4 - d3) / ((d4 - d3) + (d5 - d6));
        return [0.0, 1.0 - w, w];
    }
    let (v, w) = (vb / (va + vb + vc), vc / (va + vb + vc));
    [1.0 - v - w, v, w]
}

#[cfg(test)]
mod tests {
    use super::super::oklab::{linear, oklab};
    use super::super::palette::Palette;
    use super::*;

    fn gamut(palette: &str) -> (Gamut, Vec<Linear>) {
        let palette = Palette::parse(palette).expect("built in");
        (Gamut::new(palette.linear(), palette.is_gray()), palette.linear())
    }

    #[test]
    fn mixtures_stay_where_they_are() {
        for name in ["spectra6", "acep7", "bwry"] {
            let (gamut, inks) = gamut(name);
            for (one, two) in (0..inks.len()).flat_map(|one| (0..inks.len()).map(move |two| (one, two))) {
                let mixed = along(along(inks[one], inks[two], 0.4), inks[1], 0.3);
                let moved = minus(gamut.nearest(mixed), mixed);
                assert!(dot(moved, moved).sqrt() < 2e-3, "{name} {one} {two}: {moved:?}");
            }
        }
    }

    #[test]
    fn no_mixture_tried_is_nearer_than_the_one_found() {
        for name in ["bw-paper", "bwr", "bwry", "spectra6", "acep7"] {
            let (gamut, inks) = gamut(name);
            for pixel in
                [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [10, 200, 240], [255, 255, 255]]
            {
                let target = oklab(linear(pixel));
                let distance = |light: Linear| {
                    let off = minus(oklab(light), target);
                    dot(off, off).sqrt()
                };
                let found = distance(gamut.nearest(linear(pixel)));
                for (one, two) in (0..inks.len()).flat_map(|one| (0..inks.len()).map(move |two| (one, two))) {
                    for share in 0..=8 {
                        let other = distance(along(inks[one], inks[two], share as f32 / 8.0));
                        assert!(
                            found <= other + 0.03,
                            "{name} {pixel:?}: {found}, but {other} between {one} and {two}"
                        );
                    }
                }
            }
        }
    }
}
