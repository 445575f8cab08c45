//! The largest picture that fits into the memory there is: known from plans, before anybody asks for one.

use std::path::Path;

use anyhow::Context;

use super::shapes::Shapes;
use crate::diffusion::ports::ModelError;
use crate::diffusion::presets::{DEFAULT_UNET, Room};
use crate::engine::{Component, EngineOptions, Estimate};

/// What of pictures of up to `max_pixels` of the pack in `directory` fits into `options.memory`; nothing where all do: of the UNet
/// and of the VAE's decoder, which works in bands but has whole tensors around them. Nothing is run; weights that are not packed
/// yet are packed, or are the reason that nothing fits.
///
/// # Errors
/// A network cannot be read or planned.
pub(super) fn of_pack(
    directory: &Path,
    options: EngineOptions,
    max_pixels: usize,
) -> anyhow::Result<Option<Room>> {
    if options.memory.is_none() {
        return Ok(None);
    }
    let mut room = None;
    let mut pixels = max_pixels;
    for component in [DEFAULT_UNET, "vae_decoder"] {
        let mut network = Component::open(directory, component, options)?;
        match largest_picture(&mut network, component, directory, pixels) {
            Ok(None) => {}
            Ok(Some(fits)) => {
                pixels = fits.pixels;
                room = Some(Room::Pixels { pixels, bytes: fits.bytes });
            }
            Err(error) => match error.downcast_ref::<ModelError>() {
                Some(refused) if refused.no_memory => return Ok(Some(Room::Nothing(refused.to_string()))),
                _ => return Err(error),
            },
        }
    }
    Ok(room)
}

/// The largest picture that fits.
struct Fits {
    pixels: usize,
    /// What its buffers may take.
    bytes: usize,
}

/// Of up to `max_pixels`; nothing where those fit.
fn largest_picture(
    network: &mut Component,
    component: &str,
    directory: &Path,
    max_pixels: usize,
) -> anyhow::Result<Option<Fits>> {
    let mut fits = None;
    let mut pixels = max_pixels;
    // Buffers grow with the pixels, nearly: the second guess fits but for rounding.
    for _ in 0..4 {
        let (side, estimate) = needed(network, component, directory, pixels)?;
        // In f32 it is not known.
        let Some(Estimate { buffers, allowed: Some(bytes), .. }) = estimate else { break };
        if buffers <= bytes {
            return Ok(fits.map(|_| Fits { pixels: side * side, bytes }));
        }
        tracing::debug!(component, side, buffers, bytes, "a picture that does not fit");
        pixels = side * side / 100 * 97 * (bytes >> 10) / (buffers >> 10).max(1);
        fits = Some(Fits { pixels, bytes });
    }
    Ok(fits)
}

/// What one square picture of about so many pixels takes, and its side.
fn needed(
    network: &mut Component,
    component: &str,
    directory: &Path,
    pixels: usize,
) -> anyhow::Result<(usize, Option<Estimate>)> {
    let own = Shapes::of(directory, None, None)?;
    let multiple = 8 * own.pixels_per_latent();
    let side = (pixels.isqrt() / multiple).max(1) * multiple;
    let shapes = Shapes::of(directory, Some(side), Some(side))?;
    let estimate = shapes.estimate(network, component, 1);
    Ok((side, estimate.with_context(|| format!("{component}, {side} x {side}"))?))
}
