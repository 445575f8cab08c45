//! Pictures like another: the noise of two seeds, mixed on the sphere that normal noise lives on.

use super::latents::TorchGenerator;

/// Another seed's noise, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variation {
    /// Seeds the other noise.
    pub seed: u32,
    /// 0 is the first seed's picture, 1 the other's.
    pub strength: f64,
}

impl Variation {
    /// `noise` turned towards the noise of this seed.
    pub fn apply(&self, noise: &mut [f32]) {
        slerp(noise, &TorchGenerator::new(self.seed).randn(noise.len()), self.strength);
    }
}

/// Below this sine of the angle between them two directions count as one, and the straight line serves.
const PARALLEL: f64 = 1e-6;

/// Moves `from` the share `t` of the way to `to` along the great circle (Shoemake 1985): a straight mixture of two
/// normal vectors would have too little deviation, and the picture too little contrast.
fn slerp(from: &mut [f32], to: &[f32], t: f64) {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let cosine = dot(from, to) / (dot(from, from) * dot(to, to)).sqrt().max(f64::MIN_POSITIVE);
    let angle = libm::acos(cosine.clamp(-1.0, 1.0));
    let sine = libm::sin(angle);
    let (kept, taken) = if sine < PARALLEL {
        (1.0 - t, t)
    } else {
        (libm::sin((1.0 - t) * angle) / sine, libm::sin(t * angle) / sine)
    };
    for (a, b) in from.iter_mut().zip(to) {
        *a = (kept * f64::from(*a) + taken * f64::from(*b)) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_the_two_seeds_and_the_middle_keeps_the_deviation() {
        let (first, other) = (TorchGenerator::new(1).randn(4096), TorchGenerator::new(2).randn(4096));
        let at = |strength| {
            let mut noise = first.clone();
            Variation { seed: 2, strength }.apply(&mut noise);
            noise
        };
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&at(0.0), &first));
        assert!(near(&at(1.0), &other));
        let power = |noise: &[f32]| noise.iter().map(|v| v * v).sum::<f32>() / noise.len() as f32;
        let middle = power(&at(0.5)) / ((power(&first) + power(&other)) / 2.0);
        assert!((middle - 1.0).abs() < 1e-3, "{middle}");
    }

    #[test]
    fn equal_noise_stays_what_it_is() {
        let mut noise = vec![0.5, -1.0, 2.0];
        slerp(&mut noise, &[0.5, -1.0, 2.0], 0.3);
        assert_eq!(noise, [0.5, -1.0, 2.0]);
    }
}
