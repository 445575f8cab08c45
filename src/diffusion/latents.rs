//! Initial noise, equal to PyTorch's CPU generator, so that a seed gives the picture diffusers gives.
//!
//! `torch.manual_seed(seed); torch.randn(shape)` is a Mersenne Twister (Matsumoto and Nishimura 1998)
//! under a Box-Muller transform, in two variants that depend on the number of elements; both are
//! here, written after ATen's `CPUGeneratorImpl`, `DistributionTemplates.h` and
//! `DistributionsHelper.h`. The words are exact. The normal numbers agree within 1e-6: PyTorch's own
//! SIMD logarithm and sine differ between machines in the last bits, ours come from `libm` and do not.
//! Why this generator: docs/adr/0003-random-numbers.md.

use serde::{Deserialize, Serialize};

use super::schedulers::NoiseSource;

/// Words of state.
const N: usize = 624;
/// Distance of the word that is mixed in.
const M: usize = 397;
/// `torch.randn` transforms blocks of this many uniform numbers, and takes another path below it.
const BLOCK: usize = 16;

/// PyTorch's CPU generator after `torch.manual_seed(seed)`. Consecutive calls continue one stream.
///
/// ```
/// use easeld::diffusion::latents::TorchGenerator;
/// let noise = TorchGenerator::new(0).randn(16);
/// assert!((noise[0] - -1.1258398).abs() < 1e-6);
/// ```
#[derive(Clone)]
pub struct TorchGenerator {
    state: [u32; N],
    /// The next word of `state` to hand out; `N` when the state must be renewed first.
    next: usize,
    /// The sine half of the last pair that the scalar path made. PyTorch keeps it in the generator,
    /// so it survives calls of the block path in between.
    cached_normal: Option<f64>,
}

/// Where a generator is in its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct GeneratorState {
    words: Vec<u32>,
    next: usize,
    cached_normal: Option<f64>,
}

impl GeneratorState {
    /// Whether a generator can be made of it.
    pub(super) fn is_whole(&self) -> bool {
        self.words.len() == N && self.next <= N
    }
}

impl TorchGenerator {
    /// Where it is.
    pub(super) fn state(&self) -> GeneratorState {
        GeneratorState { words: self.state.to_vec(), next: self.next, cached_normal: self.cached_normal }
    }

    /// Goes on from a state that is whole.
    pub(super) fn from_state(state: &GeneratorState) -> Self {
        let words = state.words.as_slice().try_into().expect("whole states have as many words");
        Self { state: words, next: state.next, cached_normal: state.cached_normal }
    }

    /// The generator that `torch.manual_seed(seed)` leaves behind.
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        let mut previous = seed;
        for (i, word) in (0u32..).zip(state.iter_mut()).skip(1) {
            *word = 1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i);
            previous = *word;
        }
        Self { state, next: N, cached_normal: None }
    }

    /// The next 32 bits of the Mersenne Twister.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.renew();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `torch.randn(n, dtype=torch.float32)`; shapes do not matter, only their product.
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        self.fill_standard_normal(&mut out);
        out
    }

    fn renew(&mut self) {
        for i in 0..N {
            let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if mixed & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + M) % N] ^ (mixed >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// Uniform in [0, 1) with 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        let bits = self.next_u32() & 0x00ff_ffff;
        // Exact: 24 bits fit an f32.
        bits as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1) with 53 bits.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.next_u32());
        let low = u64::from(self.next_u32());
        let bits = ((high << 32) | low) & ((1 << 53) - 1);
        // Exact: 53 bits fit an f64.
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// ATen's `normal_fill`, for 16 elements and more.
    fn fill_blocks(&mut self, out: &mut [f32]) {
        for value in out.iter_mut() {
            *value = self.uniform_f32();
        }
        out.chunks_exact_mut(BLOCK).for_each(box_muller_block);
        if !out.len().is_multiple_of(BLOCK) {
            // The last 16 are drawn afresh, over values that the loop above may have finished.
            let start = out.len() - BLOCK;
            let last = &mut out[start..];
            for value in last.iter_mut() {
                *value = self.uniform_f32();
            }
            box_muller_block(last);
        }
    }

    /// ATen's `normal_distribution<double>`, for fewer than 16 elements.
    fn scalar_normal(&mut self) -> f64 {
        if let Some(cached) = self.cached_normal.take() {
            return cached;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let radius = (-2.0 * libm::log1p(-u2)).sqrt();
        let theta = 2.0 * std::f64::consts::PI * u1;
        self.cached_normal = Some(radius * libm::sin(theta));
        radius * libm::cos(theta)
    }
}

/// 16 uniform numbers to 16 normal ones, in f32 like PyTorch: the rounding of `theta` alone is worth 1e-6.
fn box_muller_block(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        // 1 - u is in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * libm::logf(1.0 - *a)).sqrt();
        let theta = std::f32::consts::TAU * *b;
        *a = radius * libm::cosf(theta);
        *b = radius * libm::sinf(theta);
    }
}

impl NoiseSource<f32> for TorchGenerator {
    fn fill_standard_normal(&mut self, out: &mut [f32]) {
        if out.len() >= BLOCK {
            self.fill_blocks(out);
        } else {
            for value in out {
                *value = self.scalar_normal() as f32;
            }
        }
    }
}

/// The f32 stream, widened: what `torch.randn(..., dtype=torch.float32).double()` holds.
impl NoiseSource<f64> for TorchGenerator {
    fn fill_standard_normal(&mut self, out: &mut [f64]) {
        let drawn = self.randn(out.len());
        for (wide, narrow) in out.iter_mut().zip(drawn) {
            *wide = f64::from(narrow);
        }
    }
}
