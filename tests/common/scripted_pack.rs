//! What requests are held against where a test's own generator makes the pictures.

use easeld::diffusion::decoding::Decoder;
use easeld::diffusion::presets::{PackDefaults, Preset};
use easeld::jobs::PackInfo;

/// 64 x 64 pixels in two steps.
pub(crate) fn scripted_pack() -> PackInfo {
    let preset = Preset {
        width: 64,
        height: 64,
        steps: 2,
        guidance_scale: 1.0,
        scheduler: None,
        unet: "unet".to_owned(),
        time_cond_proj_dim: None,
        decoder: Decoder::Full,
    };
    let (name, title) = ("scripted".to_owned(), "Scripted".to_owned());
    PackInfo { name, title, pack_hash: "0".repeat(64), defaults: PackDefaults::new(preset, 16) }
}
