//! One step of all pictures of a request: their inputs through the UNet, in batches as large as memory allows.

use std::cell::Cell;

use ndarray::{Array2, Array3, Array4, ArrayView2, Axis, concatenate, s, stack};

use super::canvas::Canvas;
use super::conditioning::Embeddings;
use super::guidance::Guidance;
use super::ports::{AddedInput, DeepFeatures, ModelError, Unet, UnetInput};

/// What of a request the UNet hears besides the latents.
pub(super) struct Conditions<'a> {
    pub(super) prompt: &'a Embeddings,
    /// Absent where no step is guided.
    pub(super) negative_prompt: Option<&'a Embeddings>,
    pub(super) guidance: &'a Guidance,
    /// The guidance scale as the UNet takes it, `time_cond_proj_dim` values, where it does; no step is guided then.
    pub(super) timestep_cond: Option<Vec<f32>>,
    /// The picture's size as SDXL's UNet takes it.
    pub(super) time_ids: Option<[f32; 6]>,
    /// Rows of one UNet call at most; fewer once the UNet has said that so many do not fit.
    pub(super) batch: Cell<usize>,
    /// Every how many steps all of the UNet runs.
    pub(super) cache_interval: usize,
}

impl Conditions<'_> {
    /// Moves all `canvases` by the step numbered `step` of `steps`; returns what the first of them will be, `[C, h, w]`, if
    /// somebody wants to see it.
    pub(super) fn step(
        &self,
        unet: &mut dyn Unet,
        canvases: &mut [Canvas],
        step: usize,
        steps: usize,
        foreseen: bool,
    ) -> Result<Option<Array3<f32>>, ModelError> {
        let timestep = canvases[0].scheduler.timesteps()[step];
        let inputs: Vec<_> = canvases.iter().map(|canvas| canvas.model_input(step)).collect();
        let views: Vec<_> = inputs.iter().map(|input| input.view()).collect();
        let mut rows = stack(Axis(0), &views).expect("pictures of one request have one shape");
        // The rows without the prompt come first, as diffusers orders them.
        let mut embeddings = vec![self.prompt; canvases.len()];
        let negative_prompt = self.negative_prompt.filter(|_| self.guidance.applies(step, steps));
        if let Some(negative_prompt) = negative_prompt {
            rows = concatenate(Axis(0), &[rows.view(), rows.view()]).expect("both halves have one shape");
            embeddings.splice(0..0, vec![negative_prompt; canvases.len()]);
        }
        let place = Place { step, timestep, guided: negative_prompt.is_some() };
        let outputs = self.predict(unet, &rows, place, &embeddings)?;
        let outputs: Vec<&[f32]> = outputs.iter().flat_map(rows_of).collect();
        let mut preview = None;
        for (index, canvas) in canvases.iter_mut().enumerate() {
            let output = match negative_prompt {
                Some(_) => &self.guidance.combine(outputs[index], outputs[inputs.len() + index])[..],
                None => outputs[index],
            };
            if foreseen && index == 0 {
                preview = Some(canvas.pred_original_sample(output, step));
            }
            canvas.advance(output, step);
        }
        Ok(preview)
    }

    /// The model outputs of all `rows`, in calls of one size each: a smaller one where there is no memory for it.
    fn predict(
        &self,
        unet: &mut dyn Unet,
        rows: &Array4<f32>,
        place: Place,
        embeddings: &[&Embeddings],
    ) -> Result<Vec<Array4<f32>>, ModelError> {
        loop {
            let size = call_size(rows.dim().0, self.batch.get());
            match self.calls(unet, rows, place, embeddings, size) {
                Err(error) if error.no_memory && size > 1 => self.batch.set(size - 1),
                outcome => return outcome,
            }
        }
    }

    fn calls(
        &self,
        unet: &mut dyn Unet,
        rows: &Array4<f32>,
        place: Place,
        embeddings: &[&Embeddings],
        size: usize,
    ) -> Result<Vec<Array4<f32>>, ModelError> {
        let timestep_cond = self.timestep_cond.as_ref().map(|row| repeated(row, size));
        let time_ids = self.time_ids.map(|row| repeated(&row, size));
        let starts = (0..rows.dim().0).step_by(size);
        starts
            .map(|start| {
                let embeddings = &embeddings[start..start + size];
                let states: Vec<_> = embeddings.iter().map(|prompt| prompt.hidden_states.view()).collect();
                let states = concatenate(Axis(0), &states).expect("both prompts were padded to one length");
                let text_embeds = pooled(embeddings);
                let added = text_embeds.as_ref().zip(time_ids.as_ref());
                unet.predict(&UnetInput {
                    sample: rows.slice(s![start..start + size, .., .., ..]),
                    timestep: place.timestep,
                    encoder_hidden_states: states.view(),
                    timestep_cond: timestep_cond.as_ref().map(|rows| rows.view()),
                    added: added.map(|(text_embeds, time_ids)| AddedInput {
                        text_embeds: text_embeds.view(),
                        time_ids: time_ids.view(),
                    }),
                    deep_features: place.deep_features(self.cache_interval, start),
                })
            })
            .collect()
    }
}

/// `row`, `size` times.
fn repeated(row: &[f32], size: usize) -> Array2<f32> {
    Array2::from_shape_fn((size, row.len()), |(_, column)| row[column])
}

/// The pooled texts of all rows, where there are any.
fn pooled(embeddings: &[&Embeddings]) -> Option<Array2<f32>> {
    let rows: Option<Vec<ArrayView2<'_, f32>>> =
        embeddings.iter().map(|prompt| prompt.text_embeds.as_ref().map(|row| row.view())).collect();
    Some(concatenate(Axis(0), &rows?).expect("one encoder made them all"))
}

/// Where in the loop a call stands.
#[derive(Clone, Copy)]
struct Place {
    step: usize,
    timestep: f64,
    guided: bool,
}

impl Place {
    /// Of the call whose first row is `start`. The rows of a step without guidance are others than those of one with it.
    fn deep_features(self, cache_interval: usize, start: usize) -> DeepFeatures {
        let call = 2 * start + usize::from(self.guided);
        match self.step % cache_interval {
            _ if cache_interval == 1 => DeepFeatures::Compute,
            0 => DeepFeatures::Keep(call),
            _ => DeepFeatures::Reuse(call),
        }
    }
}

fn rows_of(batch: &Array4<f32>) -> impl Iterator<Item = &[f32]> {
    let length = batch.len() / batch.dim().0.max(1);
    batch.as_slice().expect("networks give contiguous arrays").chunks_exact(length)
}

/// The largest divisor of `rows` within `most`: networks are planned for a shape, so all calls had better have one.
pub fn call_size(rows: usize, most: usize) -> usize {
    (1..=most.clamp(1, rows)).rev().find(|size| rows.is_multiple_of(*size)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::call_size;

    #[test]
    fn calls_have_one_size_and_keep_the_bound() {
        let sizes = [(2, 8), (8, 8), (10, 8), (6, 4), (7, 4), (1, 4), (4, 1), (2, 0)];
        assert_eq!(sizes.map(|(rows, most)| call_size(rows, most)), [2, 8, 5, 3, 1, 1, 1, 1]);
    }
}
