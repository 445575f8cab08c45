//! `feature_extractor/preprocessor_config.json`: what a picture goes through before CLIP's image tower.

use std::path::Path;

use serde::Deserialize;

use super::{PackError, read_json};
use crate::diffusion::similarity::ImageProcessor;

/// Pillow's number for bicubic resampling, the one CLIP uses.
const BICUBIC: u32 = 3;

#[derive(Deserialize)]
struct File {
    size: Size,
    crop_size: Size,
    image_mean: [f32; 3],
    image_std: [f32; 3],
    #[serde(default)]
    resample: Option<u32>,
}

/// Old configurations give a number, newer ones name it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(usize),
    Edge { shortest_edge: usize },
    Sides { height: usize, width: usize },
}

impl Size {
    fn side(&self) -> Option<usize> {
        match *self {
            Self::Number(side) | Self::Edge { shortest_edge: side } => Some(side),
            Self::Sides { height, width } => (height == width).then_some(height),
        }
    }
}

/// Reads the configuration of the pack at `directory`, which has an image encoder.
pub(super) fn read(directory: &Path) -> Result<ImageProcessor, PackError> {
    let path = ["feature_extractor", "image_encoder"]
        .map(|folder| directory.join(folder).join("preprocessor_config.json"));
    let path = path.iter().find(|path| path.is_file()).unwrap_or(&path[0]);
    let file: File = read_json(path)?;
    let (Some(shortest_edge), Some(crop_size)) = (file.size.side(), file.crop_size.side()) else {
        return Err(PackError::new(path, "size and crop_size should be squares"));
    };
    if crop_size == 0 || crop_size > shortest_edge {
        let message = format!("crop_size {crop_size} should be from 1 to size, {shortest_edge}");
        return Err(PackError::new(path, message));
    }
    if file.resample.is_some_and(|number| number != BICUBIC) {
        return Err(PackError::new(path, "resample should be 3, bicubic; others are not supported"));
    }
    if file.image_std.iter().any(|std| !(std.is_finite() && *std > 0.0)) {
        return Err(PackError::new(path, "image_std should hold positive numbers"));
    }
    Ok(ImageProcessor { shortest_edge, crop_size, mean: file.image_mean, std: file.image_std })
}
