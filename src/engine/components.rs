//! The ports of `diffusion`, each over one [`Network`]: names of graph inputs and checks of shapes.

use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView4, Dimension, Ix2, Ix3, Ix4};

use super::component::failed;
use super::network::Network;
use super::planned::PENULTIMATE;
use super::typed::Input;
use crate::diffusion::ports::{
    AddedInput, ImageEncoder, ModelError, TextEncoder, Unet, UnetInput, Upscaler, VaeDecoder, VaeEncoder,
};

pub(super) struct TractTextEncoder(pub(super) Network);
pub(super) struct TractImageEncoder(pub(super) Network);
pub(super) struct TractUnet(pub(super) Network);
pub(super) struct TractVaeDecoder(pub(super) Network);
pub(super) struct TractVaeEncoder(pub(super) Network);
pub(super) struct TractUpscaler(pub(super) Network);

impl TextEncoder for TractTextEncoder {
    fn encode(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array3<f32>, ModelError> {
        let inputs = [("input_ids", Input::Tokens(token_ids.into_dyn()))];
        run::<Ix3>(&mut self.0, &inputs, "last_hidden_state")
    }

    fn project(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array2<f32>, ModelError> {
        let inputs = [("input_ids", Input::Tokens(token_ids.into_dyn()))];
        run::<Ix2>(&mut self.0, &inputs, "text_embeds")
    }

    fn encode_penultimate(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array3<f32>, ModelError> {
        let inputs = [("input_ids", Input::Tokens(token_ids.into_dyn()))];
        run::<Ix3>(&mut self.0, &inputs, PENULTIMATE)
    }

    fn encode_pooled(
        &mut self,
        token_ids: ArrayView2<'_, i64>,
    ) -> Result<(Array3<f32>, Array2<f32>), ModelError> {
        let inputs = [("input_ids", Input::Tokens(token_ids.into_dyn()))];
        let outputs = self.0.run_several(&inputs, [PENULTIMATE, "text_embeds"]);
        let component = self.0.component();
        let [states, pooled] = outputs.map_err(|error| failed(component, &error))?;
        Ok((
            into_rank::<Ix3>(component, PENULTIMATE, Ok(states))?,
            into_rank::<Ix2>(component, "text_embeds", Ok(pooled))?,
        ))
    }
}

impl ImageEncoder for TractImageEncoder {
    fn encode(&mut self, pixel_values: ArrayView4<'_, f32>) -> Result<Array2<f32>, ModelError> {
        let inputs = [("pixel_values", Input::Floats(pixel_values.into_dyn()))];
        run::<Ix2>(&mut self.0, &inputs, "image_embeds")
    }
}

impl Unet for TractUnet {
    fn predict(&mut self, input: &UnetInput<'_>) -> Result<Array4<f32>, ModelError> {
        let latents = input.sample;
        let mut inputs = vec![
            ("sample", Input::Floats(latents.into_dyn())),
            ("timestep", Input::Scalar(input.timestep)),
            ("encoder_hidden_states", Input::Floats(input.encoder_hidden_states.into_dyn())),
        ];
        if let Some(timestep_cond) = input.timestep_cond {
            inputs.push(("timestep_cond", Input::Floats(timestep_cond.into_dyn())));
        }
        if let Some(AddedInput { text_embeds, time_ids }) = input.added {
            inputs.push(("text_embeds", Input::Floats(text_embeds.into_dyn())));
            inputs.push(("time_ids", Input::Floats(time_ids.into_dyn())));
        }
        let output = self.0.run_reusing(&inputs, "out_sample", input.deep_features);
        let output = into_rank::<Ix4>(self.0.component(), "out_sample", output)?;
        // Inpainting UNets take more channels than they give.
        let [batch, channels, height, width] = [0, 1, 2, 3].map(|axis| latents.shape()[axis]);
        let met = output.shape();
        if [met[0], met[2], met[3]] != [batch, height, width] || met[1] > channels {
            let message = format!("out_sample is {:?} for a sample of {:?}", output.shape(), latents.shape());
            return Err(ModelError::new(self.0.component(), message));
        }
        Ok(output)
    }
}

impl VaeDecoder for TractVaeDecoder {
    fn decode(&mut self, latents: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError> {
        let inputs = [("latent_sample", Input::Floats(latents.into_dyn()))];
        run::<Ix4>(&mut self.0, &inputs, "sample")
    }
}

impl VaeEncoder for TractVaeEncoder {
    fn encode(&mut self, sample: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError> {
        let inputs = [("sample", Input::Floats(sample.into_dyn()))];
        run::<Ix4>(&mut self.0, &inputs, "latent_parameters")
    }
}

impl Upscaler for TractUpscaler {
    fn upscale(&mut self, picture: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError> {
        // Exporters call input and output what they like; there is one of each.
        let output = self.0.run_only(Input::Floats(picture.into_dyn()));
        into_rank(self.0.component(), "the output", output)
    }
}

fn run<D: Dimension>(
    network: &mut Network,
    inputs: &[(&str, Input<'_>)],
    output: &str,
) -> Result<ndarray::Array<f32, D>, ModelError> {
    let array = network.run(inputs, output);
    into_rank(network.component(), output, array)
}

fn into_rank<D: Dimension>(
    component: &str,
    output: &str,
    array: anyhow::Result<ndarray::ArrayD<f32>>,
) -> Result<ndarray::Array<f32, D>, ModelError> {
    array
        .and_then(|array| {
            let shape = array.shape().to_vec();
            array.into_dimensionality::<D>().map_err(|_| {
                anyhow::anyhow!("{output} has shape {shape:?}, wanted rank {}", D::NDIM.unwrap_or_default())
            })
        })
        .map_err(|error| failed(component, &error))
}
