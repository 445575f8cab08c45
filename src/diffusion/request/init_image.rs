//! A request's picture to begin from: how large it claims to be, and what is made of it.

use std::sync::Arc;

use super::checks::{invalid, number};
use super::{FieldError, RawRequest};
use crate::diffusion::presets::{Masking, PackDefaults};

/// `strength` where a request names a picture and not how far to leave it: diffusers' default.
const STRENGTH: f64 = 0.8;

/// A PNG or JPEG file whose header has been read; the rest of it may still turn out to be damaged.
#[derive(Clone, PartialEq)]
pub struct EncodedPicture {
    /// The file.
    pub bytes: Arc<[u8]>,
    /// Pixels, as it says.
    pub width: usize,
    /// Pixels, as it says.
    pub height: usize,
}

impl std::fmt::Debug for EncodedPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} pixels in {} bytes", self.width, self.height, self.bytes.len())
    }
}

/// The picture a request begins from.
#[derive(Debug, Clone, PartialEq)]
pub struct InitImage {
    /// Resized to the size of the request.
    pub image: EncodedPicture,
    /// White where it is to be painted anew; as large as the picture.
    pub mask: Option<EncodedPicture>,
    /// Above 0, at most 1: how far to leave it; the share of the steps that are taken.
    pub strength: f64,
}

/// The checked picture of `raw`, if it has one.
///
/// # Errors
/// `strength` or `mask` without `init_image`, a mask of another size, a strength out of bounds, a pack that cannot.
pub(super) fn init_image(raw: &mut RawRequest, pack: &PackDefaults) -> Result<Option<InitImage>, FieldError> {
    let (mask, strength) = (raw.mask.take(), raw.strength);
    let Some(image) = raw.init_image.take() else {
        let alone = match (&mask, strength) {
            (Some(mask), _) => Some(("mask", format!("{mask:?}"))),
            (None, Some(strength)) => Some(("strength", strength.to_string())),
            (None, None) => None,
        };
        if let Some((field, value)) = alone {
            return Err(invalid(field, value, "needs an init_image beside it"));
        }
        if pack.masking == Masking::Channels {
            let message = "this model repaints pictures: it needs an init_image and a mask";
            return Err(FieldError::new("missing_field", "init_image", "nothing", message));
        }
        return Ok(None);
    };
    if !pack.encodes {
        let message = "this model cannot begin from a picture: it has no vae_encoder";
        return Err(FieldError::new("unsupported", "init_image", format!("{image:?}"), message));
    }
    match &mask {
        Some(mask) if (mask.width, mask.height) != (image.width, image.height) => {
            let message = format!("as large as init_image, {} x {} pixels", image.width, image.height);
            return Err(invalid("mask", format!("{} x {}", mask.width, mask.height), message));
        }
        None if pack.masking == Masking::Channels => {
            let message = "this model repaints pictures: it needs a mask, white where to paint anew";
            return Err(FieldError::new("missing_field", "mask", "nothing", message));
        }
        _ => {}
    }
    let strength = number("strength", strength.unwrap_or(STRENGTH), 0.0, 1.0)?;
    Ok(Some(InitImage { image, mask, strength }))
}
