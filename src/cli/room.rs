//! The largest picture that fits into the memory there is: known from plans, before anybody asks for one.

use std::path::Path;

use anyhow::Context;

use super::shapes::Shapes;
use crate::diffusion::ports::ModelError;
use crate::diffusion::presets::{DEFAULT_UNET, Room};
use crate::engine::{Component, EngineOptions};

/// What of pictures of up to `max_pixels` of the pack in `directory` fits into `options.memory`; nothing where all do. The UNet
/// decides: it has the largest buffers, as the VAE works in bands. Nothing is run; weights that are not packed yet are packed,
/// or are the reason that nothing fits.
///
/// # Errors
/// The network cannot be read or planned.
pub(super) fn of_pack(
    directory: &Path,
    options: EngineOptions,
    max_pixels: usize,
) -> anyhow::Result<Option<Room>> {
    let Some(bytes) = options.memory else { return Ok(None) };
    let mut unet = Component::open(directory, DEFAULT_UNET, options)?;
    match largest_picture(&mut unet, directory, bytes, max_pixels) {
        Ok(pixels) => Ok(Some(pixels)
            .filter(|pixels| *pixels < max_pixels)
            .map(|pixels| Room::Pixels { pixels, bytes })),
        Err(error) => match error.downcast_ref::<ModelError>() {
            Some(refused) if refused.no_memory => Ok(Some(Room::Nothing(refused.to_string()))),
            _ => Err(error),
        },
    }
}

/// Most pixels whose buffers take at most `allowed` bytes; at most `max_pixels`.
fn largest_picture(
    unet: &mut Component,
    directory: &Path,
    allowed: usize,
    max_pixels: usize,
) -> anyhow::Result<usize> {
    let mut pixels = max_pixels;
    // Buffers grow with the pixels, nearly: the second guess fits but for rounding.
    for _ in 0..4 {
        let Some((side, needed)) = needed(unet, directory, pixels)? else { return Ok(max_pixels) };
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
    let estimate = shapes.estimate(unet, DEFAULT_UNET, 1).with_context(|| format!("{side} x {side}"))?;
    Ok(estimate.map(|estimate| (side, estimate.buffers)))
}
