//! One step of an exponential integrator in `lambda = ln(alpha / sigma)`, which DPM-Solver, UniPC and DEIS have in
//! common: Lu et al. 2022, <https://arxiv.org/abs/2206.00927> (proposition 3.1) and
//! <https://arxiv.org/abs/2211.01095> (equations 9 and 12).
//!
//! With `alpha = 1 / sqrt(sigma^2 + 1)`, `sigma_t = sigma alpha` and `h = lambda_t - lambda_s`, the exact solution
//! from s to t is `x_t = base x_s + k * integral of m`, weighted with `e^(z u / h)`, where m is the model's
//! estimate along the way:
//!
//! | | m | base | k | z |
//! | --- | --- | --- | --- | --- |
//! | of the picture, ODE | x0 | sigma_t / sigma_s | -alpha_t | -h |
//! | of the picture, SDE | x0 | sigma_t / sigma_s e^-h | -alpha_t | -2h |
//! | of the noise, ODE | noise | alpha_t / alpha_s | -sigma_t | h |
//! | of the noise, SDE | noise | alpha_t / alpha_s | -2 sigma_t | h |
//!
//! Methods differ in how they take m between the points where it is known. As a polynomial in `u / h` through
//! them, its powers have the moments `M0 = e^z - 1`, `Mi = i M(i-1) / z - 1`.

use super::prediction::Level;

/// What is integrated, and whether noise is drawn on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    OriginalSample,
    OriginalSampleSde,
    Noise,
    NoiseSde,
}

/// How many moments are worked out: for polynomials through four points.
pub(super) const MOMENTS: usize = 4;

/// A step from one noise level to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    /// Of the sample.
    pub(super) base: f64,
    /// The deviation of fresh noise; 0 for the ODE.
    pub(super) noise: f64,
    /// How far it goes in lambda.
    h: f64,
    k: f64,
    z: f64,
}

impl Interval {
    pub(super) fn new(form: Form, sigma_s: f64, sigma_t: f64) -> Self {
        let (s, t) = (Level::preserving(sigma_s), Level::preserving(sigma_t));
        let h = libm::log(sigma_s) - libm::log(sigma_t);
        let (z, base, k, variance) = match form {
            Form::OriginalSample => (-h, t.noise / s.noise, -t.signal, 0.0),
            Form::OriginalSampleSde => {
                (-2.0 * h, t.noise / s.noise * libm::exp(-h), -t.signal, -libm::expm1(-2.0 * h))
            }
            Form::Noise => (h, t.signal / s.signal, -t.noise, 0.0),
            Form::NoiseSde => (h, t.signal / s.signal, -2.0 * t.noise, libm::expm1(2.0 * h)),
        };
        // No noise at the end, where an infinite h would make 0 times infinity of it.
        let noise = if t.noise == 0.0 { 0.0 } else { t.noise * variance.max(0.0).sqrt() };
        Self { base, noise, h, k, z }
    }

    /// The exponent at the end.
    pub(super) fn z(&self) -> f64 {
        self.z
    }

    /// M0, M1, M2, M3. Beyond the first they are finite for finite steps only.
    pub(super) fn moments(&self) -> [f64; MOMENTS] {
        let mut moments = [libm::expm1(self.z), 0.0, 0.0, 0.0];
        for i in 1..MOMENTS {
            moments[i] = if self.z.abs() < 1.0 {
                self.moment_by_series(i)
            } else {
                moments[i - 1] * i as f64 / self.z - 1.0
            };
        }
        moments
    }

    /// `i! * sum over n >= 1 of z^n / (n + i)!`, where the quotients would cancel.
    fn moment_by_series(&self, i: usize) -> f64 {
        let mut term = 1.0;
        let mut sum = 0.0;
        for n in 1..=20 {
            term *= self.z / (n + i) as f64;
            sum += term;
        }
        sum
    }

    /// The factors of model outputs known at `nodes`, distances in lambda from the step's start, one of them 0, for
    /// the polynomial through all of them. Of several at one place the first counts: they hold no slope.
    pub(super) fn weights(&self, nodes: &[f64], moments: [f64; MOMENTS]) -> Vec<f64> {
        let is_new = |j: usize| !nodes[..j].contains(&nodes[j]);
        let mut weights = vec![0.0; nodes.len()];
        for (j, weight) in weights.iter_mut().enumerate().filter(|(j, _)| is_new(*j)) {
            // Lagrange's polynomial, 1 at this node and 0 at the others, by its coefficients.
            let mut polynomial = [1.0, 0.0, 0.0, 0.0];
            for other in (0..nodes.len()).filter(|&other| other != j && is_new(other)) {
                let width = nodes[j] - nodes[other];
                for i in (0..MOMENTS).rev() {
                    let lower = if i > 0 { polynomial[i - 1] } else { 0.0 };
                    polynomial[i] = (lower - polynomial[i] * nodes[other]) / width;
                }
            }
            let mut power = 1.0;
            for (coefficient, moment) in polynomial.into_iter().zip(moments) {
                if coefficient != 0.0 {
                    *weight += self.k * coefficient * moment * power;
                }
                power *= self.h;
            }
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_agree_where_series_and_quotients_meet() {
        for z in [0.999_999_999_9, -0.999_999_999_9] {
            let inside = Interval { base: 1.0, noise: 0.0, h: z, k: 1.0, z }.moments();
            let outside = Interval { base: 1.0, noise: 0.0, h: z, k: 1.0, z: z * 1.000_000_000_2 }.moments();
            for i in 0..MOMENTS {
                assert!((inside[i] - outside[i]).abs() < 1e-9, "{z} {i}: {inside:?} {outside:?}");
            }
        }
    }

    #[test]
    fn a_constant_estimate_is_integrated_exactly_whatever_the_nodes() {
        let interval = Interval::new(Form::OriginalSample, 2.0, 0.5);
        let constant = interval.weights(&[0.0], interval.moments())[0];
        for nodes in [&[0.0, -0.3][..], &[0.0, -0.3, -0.9], &[1.4, 0.0, -0.3, -0.9], &[0.0, 0.0, -0.9]] {
            let weights = interval.weights(nodes, interval.moments());
            assert!((weights.iter().sum::<f64>() - constant).abs() < 1e-14, "{nodes:?}: {weights:?}");
        }
    }
}
