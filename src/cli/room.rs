//! The largest picture that fits into the memory there is: known from plans, before anybody asks for one.

use std::path::Path;

use anyhow::Context;

use super::shapes::Shapes;
use crate::engine::{Component, EngineOptions};

/// The component with the largest buffers; the VAE works in bands.
const UNET: &str = "unet";

/// Most pixels of a picture of the pack in `directory` whose UNet keeps to `options.memory`; at most `max_pixels`. Nothing is
/// run; weights that are not packed yet are packed.
///
/// # Errors
/// The network cannot be read or planned.
pub(super) fn largest_picture(
    directory: &Path,
    options: EngineOptions,
    max_pixels: usize,
) -> anyhow::Result<usize> {
    let Some(allowed) = options.memory else { return Ok(max_pixels) };
    let mut unet = Component::open(directory, UNET, EngineOptions { memory: None, ..options })?;
    let mut pixels = max_pixels;
    // Buffers grow with the pixels, nearly: the second guess fits but for rounding.
    for _ in 0..4 {
        let Some((side, needed)) = needed(&mut unet, directory, pixels)? else { return Ok(max_pixels) };
        if needed <= allowed {
            return Ok(if pixels == max_pixels { max_pixels } else { side * side });
        }
        tracing::debug!(side, needed, allowed, "a picture that does not fit");
        pixels = side * side / 100 * 97 * (allowed >> 10) / (needed >> 10).max(1);
    }
    Ok(pixels)
}

/// Bytes of buffers for one square picture of about so many pixels, and its side.
fn needed(unet: &mut Component, directory: &Path, pixels: usize) -> anyhow::Result<Option<(usize, usize)>> {
    let own = Shapes::of(directory, None, None)?;
    let multiple = 8 * own.pixels_per_latent();
    let side = (pixels.isqrt() / multiple).max(1) * multiple;
    let shapes = Shapes::of(directory, Some(side), Some(side))?;
    let estimate = shapes.estimate(unet, UNET, 1).with_context(|| format!("{side} x {side}"))?;
    Ok(estimate.map(|estimate| (side, estimate.buffers)))
}
