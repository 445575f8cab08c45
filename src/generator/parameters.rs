//! What is written into a picture's file of how it was made.

use super::Generator;
use super::said::Said;
use crate::diffusion::pipeline::Seeds;
use crate::diffusion::request::GenerationRequest;

impl Generator {
    /// The text that people's tools read from the chunk `parameters`, in the words of the Stable Diffusion web UI.
    pub(super) fn parameters(&self, request: &GenerationRequest, said: &Said, seeds: Seeds) -> String {
        let mut text = said.prompt.clone();
        if !said.negative_prompt.is_empty() {
            text += &format!("\nNegative prompt: {}", said.negative_prompt);
        }
        let scheduler = request
            .scheduler
            .as_ref()
            .map_or_else(|| self.config.scheduler.class_name().to_owned(), std::string::ToString::to_string);
        let guidance = &request.guidance;
        text += &format!(
            "\nSteps: {}, Sampler: {scheduler}, CFG scale: {}, Seed: {}, Size: {}x{}, ",
            request.num_inference_steps, guidance.scale, seeds.seed, request.width, request.height,
        );
        if let Some(variation) = seeds.variation {
            text += &format!(
                "Variation seed: {}, Variation seed strength: {}, ",
                variation.seed, variation.strength
            );
        }
        if request.upscale > 1 {
            text += &format!("Hires upscale: {}, ", request.upscale);
        }
        if let Some(init_image) = &request.init_image {
            text += &format!("Denoising strength: {}, ", init_image.strength);
        }
        if request.cache_interval > 1 {
            text += &format!("Cache interval: {}, ", request.cache_interval);
        }
        if guidance.rescale > 0.0 {
            text += &format!("CFG Rescale: {}, ", guidance.rescale);
        }
        text + &format!(
            "Model hash: {}, Model: {}, Version: easeld {}",
            &self.pack.hash[..10],
            self.pack.name,
            env!("CARGO_PKG_VERSION"),
        )
    }
}
