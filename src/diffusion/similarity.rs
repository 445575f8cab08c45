//! How alike a picture and a text are, as CLIP measures it (Radford et al. 2021).

use ndarray::{ArrayView1, ArrayView2, ArrayView4};

use super::ports::{ModelError, Models};

/// What a picture goes through before the image tower: the numbers of a `CLIPImageProcessor`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    /// The shorter side of a picture after bicubic resizing, pixels.
    pub shortest_edge: usize,
    /// Width and height of the middle that is kept, pixels.
    pub crop_size: usize,
    /// Of each channel, subtracted from values in 0..1.
    pub mean: [f32; 3],
    /// Of each channel, divided by afterwards.
    pub std: [f32; 3],
}

/// Cosines, -1 to 1, of the angles between a prepared picture `[1, 3, S, S]` and each of the texts `token_ids` `[T, 77]`.
pub fn similarities(
    models: &mut dyn Models,
    pixel_values: ArrayView4<'_, f32>,
    token_ids: ArrayView2<'_, i64>,
) -> Result<Vec<f32>, ModelError> {
    let image = models.image_encoder()?.encode(pixel_values)?;
    let texts = models.text_encoder()?.project(token_ids)?;
    Ok(texts.outer_iter().map(|text| cosine(text, image.row(0))).collect())
}

fn cosine(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f32 {
    let dot = |x: ArrayView1<'_, f32>, y: ArrayView1<'_, f32>| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_cosine_knows_direction_and_not_length() {
        let (east, north) = (array![2.0, 0.0], array![0.0, 5.0]);
        assert_eq!(cosine(east.view(), east.view()), 1.0);
        assert_eq!(cosine(east.view(), north.view()), 0.0);
        assert_eq!(cosine(east.view(), (-&east).view()), -1.0);
        assert_eq!(cosine(east.view(), array![0.0, 0.0].view()), 0.0);
    }
}
