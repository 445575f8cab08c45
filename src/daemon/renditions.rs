//! A picture as panels want it, on `image/<rendition>` with `image/<rendition>/meta`, both retained: as `image` is, and after it.

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::json;
use crate::config::Settings;
use crate::diffusion::postprocess::RgbImage;
use crate::display::rendition::{Profile, RenderError, render};
use crate::jobs::report::ImageMeta;
use crate::jobs::worker::hex;
use crate::mqtt::{Publication, Topics};

/// The profiles that the configuration wants published; it was checked that there are such.
pub(super) fn wanted(settings: &Settings) -> Vec<Profile> {
    let names = &settings.display.renditions;
    names.iter().filter_map(|name| settings.profiles.get(name).ok()).cloned().collect()
}

/// The JSON on `image/<rendition>/meta`: that of `image/meta`, for these bytes.
#[derive(Debug, Serialize)]
struct RenditionMeta<'a> {
    rendition: &'a str,
    #[serde(flatten)]
    meta: ImageMeta,
}

/// The bytes, then what they are; a file of at most `most` bytes.
///
/// # Errors
/// The profile cannot be made so small, or not at all.
pub(super) fn publications(
    picture: &RgbImage,
    profile: &Profile,
    meta: &ImageMeta,
    topics: &Topics,
    most: usize,
) -> Result<[Publication; 2], RenderError> {
    let max_bytes = if profile.max_bytes == 0 { most } else { most.min(profile.max_bytes) };
    let unbounded = max_bytes == usize::MAX;
    let profile = Profile { max_bytes: if unbounded { 0 } else { max_bytes }, ..profile.clone() };
    let rendered = render(picture, &profile)?;
    let meta = ImageMeta {
        bytes: rendered.bytes.len(),
        sha256: hex(&Sha256::digest(&rendered.bytes)),
        width: rendered.width,
        height: rendered.height,
        content_type: rendered.media_type.to_owned(),
        ..meta.clone()
    };
    let image = Publication {
        topic: topics.rendition(&profile.name),
        payload: Bytes::from(rendered.bytes),
        retain: true,
        content_type: Some(rendered.media_type.to_owned()),
        ..Publication::default()
    };
    let meta = json(topics.rendition_meta(&profile.name), &RenditionMeta { rendition: &profile.name, meta });
    Ok([image, Publication { retain: true, ..meta }])
}
