//! How alike a picture and a text are, as CLIP measures it (Radford et al. 2021).

use ndarray::{Array2, Array4, ArrayView1, ArrayView2};

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

/// `[pictures, texts]`: cosines, -1 to 1, of the angles between prepared pictures `[1, 3, S, S]` each and the texts
/// `token_ids` `[texts, 77]`.
pub fn similarities(
    models: &mut dyn Models,
    pictures: &[Array4<f32>],
    token_ids: ArrayView2<'_, i64>,
) -> Result<Array2<f32>, ModelError> {
    let image_encoder = models.image_encoder()?;
    let images: Vec<_> =
        pictures.iter().map(|picture| image_encoder.encode(picture.view())).collect::<Result<_, _>>()?;
    let texts = models.text_encoder()?.project(token_ids)?;
    Ok(Array2::from_shape_fn((images.len(), texts.nrows()), |(image, text)| {
        cosine(texts.row(text), images[image].row(0))
    }))
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
