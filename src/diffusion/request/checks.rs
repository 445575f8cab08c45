//! The checks behind [`GenerationRequest::new`](super::GenerationRequest::new), one a field or a pair that belongs together.

use super::{FieldError, InitImage, Limits};
use crate::diffusion::decoding::Decoder;
use crate::diffusion::guidance::Guidance;
use crate::diffusion::presets::{PackDefaults, Preset};
use crate::diffusion::schedulers::{self, AUTO, Run, SchedulerError, SchedulerName};
use crate::diffusion::variation::Variation;

/// Longest side that is considered at all, in pixels: keeps every later product inside 64 bits.
const SIDE_MAX: u64 = 65_536;
/// Largest `upscale`.
const UPSCALE_MAX: usize = 8;
/// Largest `guidance_scale`. Beyond some tens a picture is noise; the bound only keeps f32 finite.
const GUIDANCE_MAX: f64 = 100.0;

pub(super) fn invalid(field: &str, value: impl ToString, message: impl Into<String>) -> FieldError {
    FieldError::new("invalid_value", field, value, message)
}

/// Not blank, and as [`text`] has it.
pub(super) fn prompt(prompt: &str, limits: &Limits) -> Result<(), FieldError> {
    if prompt.trim().is_empty() {
        let message = "a prompt must say what the picture shows; it is empty";
        return Err(FieldError::new("missing_field", "prompt", prompt, message));
    }
    text("prompt", prompt, limits)
}

/// Length and control characters. Newline and tab are what people type and a tokenizer treats as blanks; any other
/// control character is a broken encoder or an attack on whoever prints the prompt.
pub(super) fn text(field: &str, text: &str, limits: &Limits) -> Result<(), FieldError> {
    if text.len() > limits.max_prompt_bytes {
        return Err(FieldError::new(
            "too_long",
            field,
            text,
            format!("{} bytes of UTF-8, at most {} are allowed", text.len(), limits.max_prompt_bytes),
        ));
    }
    let broken = |c: &char| c.is_control() && !matches!(c, '\n' | '\t');
    match text.chars().find(broken) {
        Some(c) => Err(invalid(
            field,
            text,
            format!("control character U+{:04X}; only newline and tab are allowed", u32::from(c)),
        )),
        None => Ok(()),
    }
}

pub(super) fn seed(field: &str, seed: Option<u64>) -> Result<Option<u32>, FieldError> {
    let narrow = |seed| {
        u32::try_from(seed)
            .map_err(|_| invalid(field, seed, format!("a whole number from 0 to {}", u32::MAX)))
    };
    seed.map(narrow).transpose()
}

/// A seed without a strength would be a wish that changes nothing.
pub(super) fn variation(
    seed: Option<u64>,
    strength: Option<f64>,
    random_seed: impl FnOnce() -> u32,
) -> Result<Option<Variation>, FieldError> {
    let other = self::seed("variation_seed", seed)?;
    let Some(strength) = strength else {
        return match other {
            Some(seed) => {
                Err(invalid("variation_seed", seed, "needs a variation_strength from 0 to 1 beside it"))
            }
            None => Ok(None),
        };
    };
    let strength = number("variation_strength", strength, 0.0, 1.0)?;
    Ok(Some(Variation { seed: other.unwrap_or_else(random_seed), strength }))
}

pub(super) fn steps(steps: Option<u64>, limits: &Limits, preset: &Preset) -> Result<usize, FieldError> {
    // A pack may default to more steps than a small board's owner allows: the owner's bound wins.
    let Some(steps) = steps else {
        return Ok(preset.steps.clamp(1, limits.max_steps.max(1)));
    };
    usize::try_from(steps).ok().filter(|steps| (1..=limits.max_steps).contains(steps)).ok_or_else(|| {
        let allowed = format!("a whole number from 1 to {}", limits.max_steps);
        invalid("steps", steps, allowed)
    })
}

/// `others` are rescale, start and stop.
pub(super) fn guidance(scale: f64, others: [Option<f64>; 3]) -> Result<Guidance, FieldError> {
    number("guidance_scale", scale, 0.0, GUIDANCE_MAX)?;
    let share = |field: &str, value: Option<f64>, default| number(field, value.unwrap_or(default), 0.0, 1.0);
    let [rescale, start, stop] = others;
    let guidance = Guidance {
        scale,
        rescale: share("guidance_rescale", rescale, 0.0)?,
        start: share("guidance_start", start, 0.0)?,
        stop: share("guidance_stop", stop, 1.0)?,
    };
    if guidance.start > guidance.stop {
        let message = format!("at least guidance_start, {}", guidance.start);
        return Err(invalid("guidance_stop", guidance.stop, message));
    }
    Ok(guidance)
}

pub(super) fn cache_interval(interval: Option<u64>, limits: &Limits) -> Result<usize, FieldError> {
    let Some(interval) = interval else { return Ok(1) };
    usize::try_from(interval).ok().filter(|interval| (1..=limits.max_steps).contains(interval)).ok_or_else(
        || {
            let allowed =
                format!("a whole number of steps from 1 (nothing is cached) to {}", limits.max_steps);
            invalid("cache_interval", interval, allowed)
        },
    )
}

/// `value`, if it is within both bounds; NaN never is.
pub(super) fn number(field: &str, value: f64, least: f64, most: f64) -> Result<f64, FieldError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(invalid(field, value, format!("a number from {least} to {most}")))
}

/// The scheduler asked for, `auto` resolved, or the preset's.
pub(super) fn scheduler(
    name: Option<String>,
    steps: usize,
    pack: &PackDefaults,
    preset: &Preset,
) -> Result<Option<SchedulerName>, FieldError> {
    match name {
        None => Ok(preset.scheduler.clone()),
        Some(name) if name == AUTO => Ok(pack.auto_schedulers.pick(pack.scheduler.as_ref(), steps)),
        Some(name) => name.parse().map(Some).map_err(|problem: SchedulerError| {
            invalid("scheduler", &name, format!("{AUTO}, or a name of the table: {problem}"))
        }),
    }
}

/// Builds the schedule once to see that it can be: options that fail later would cost a place in the queue.
pub(super) fn schedule(
    name: Option<&SchedulerName>,
    options: &serde_json::Map<String, serde_json::Value>,
    run: Run,
    pack: &PackDefaults,
) -> Result<(), FieldError> {
    let Some(config) = &pack.scheduler else { return Ok(()) };
    schedulers::build::<f32>(name, config, options, run).map(|_| ()).map_err(schedule_error)
}

/// What the schedulers say, under the request's names.
pub(super) fn schedule_error(error: SchedulerError) -> FieldError {
    let field = match error.field.as_str() {
        field @ ("scheduler" | "steps" | "strength") => field.to_owned(),
        option => format!("scheduler_options.{option}"),
    };
    invalid(&field, error.value, error.message)
}

/// (width, height, magnification): both sides, magnified, multiples of what the architecture needs and together within
/// `max_pixels` and what memory there is. Where none is given, a picture to begin from keeps its shape at the pack's own number of pixels.
pub(super) fn size(
    width: Option<u64>,
    height: Option<u64>,
    init_image: Option<&InitImage>,
    limits: &Limits,
    pack: &PackDefaults,
    preset: &Preset,
) -> Result<(usize, usize, usize), FieldError> {
    let side = |field: &str, asked: Option<u64>, default: usize| match asked {
        None => Ok(default),
        Some(asked @ 1..=SIDE_MAX) => Ok(asked as usize),
        Some(asked) => Err(invalid(field, asked, format!("a whole number of pixels from 1 to {SIDE_MAX}"))),
    };
    let asked = width.is_some() || height.is_some();
    let default = match init_image.filter(|_| !asked) {
        Some(InitImage { image, .. }) => pack.size_like(preset, image.width, image.height),
        None => (preset.width, preset.height),
    };
    let width = side("width", width, default.0)?;
    let height = side("height", height, default.1)?;
    let magnification = pack.magnification(width, height);
    let multiple = pack.size_multiple;
    for (field, pixels) in [("width", width), ("height", height)] {
        if !(pixels * magnification).is_multiple_of(multiple) {
            let needed = multiple / greatest_common_divisor(multiple, magnification);
            return Err(invalid(field, pixels, format!("a multiple of {needed} pixels at this size")));
        }
    }
    let made = (width * magnification).saturating_mul(height * magnification);
    // Of the pack's own size as well: it would be refused all the same, after its turn came.
    if let Some(message) = pack.no_memory(made) {
        return Err(FieldError::new("no_memory", "width", format!("{width}x{height}"), message));
    }
    // The pack's own size passes: its owner chose the pack, a requester did not ask for anything.
    if asked && made > limits.max_pixels {
        let averaged = match magnification {
            1 => String::new(),
            times => format!(" (it would be made {times} times larger along each side and averaged down)"),
        };
        return Err(FieldError::new(
            "too_large",
            "width",
            format!("{width}x{height}"),
            format!("width times height may be at most {} pixels{averaged}", limits.max_pixels),
        ));
    }
    Ok((width, height, magnification))
}

/// `pixels` are those of the picture before it is made larger.
pub(super) fn upscale(upscale: Option<u64>, pixels: usize, limits: &Limits) -> Result<usize, FieldError> {
    let Some(asked) = upscale else { return Ok(1) };
    let factor = usize::try_from(asked).ok().filter(|factor| (1..=UPSCALE_MAX).contains(factor));
    let Some(factor) = factor else {
        return Err(invalid("upscale", asked, format!("a whole number from 1 to {UPSCALE_MAX}")));
    };
    if pixels.saturating_mul(factor * factor) > limits.max_output_pixels {
        let message = format!("the finished picture may have at most {} pixels", limits.max_output_pixels);
        return Err(FieldError::new("too_large", "upscale", factor, message));
    }
    Ok(factor)
}

/// (num_images, candidates): candidates are as many as pictures unless there are to be more of them.
pub(super) fn images(
    num_images: Option<u64>,
    candidates: Option<u64>,
    limits: &Limits,
    pack: &PackDefaults,
) -> Result<(usize, usize), FieldError> {
    let count = |field, asked, least: usize| match asked {
        None => Ok(least),
        Some(asked) => {
            usize::try_from(asked).ok().filter(|n| (least..=limits.max_images).contains(n)).ok_or_else(|| {
                let allowed = format!("a whole number from {least} to {}", limits.max_images);
                invalid(field, asked, allowed)
            })
        }
    };
    let num_images = count("num_images", num_images, 1)?;
    let candidates = count("candidates", candidates, num_images)?;
    if candidates > num_images {
        needs_scores("candidates", candidates, pack)?;
    }
    Ok((num_images, candidates))
}

pub(super) fn min_similarity(least: Option<f64>, pack: &PackDefaults) -> Result<Option<f64>, FieldError> {
    let Some(least) = least else { return Ok(None) };
    needs_scores("min_similarity", least, pack)?;
    number("min_similarity", least, -1.0, 1.0).map(Some)
}

pub(super) fn preview(preview: Option<bool>, pack: &PackDefaults) -> Result<bool, FieldError> {
    if preview == Some(true) && !pack.previews {
        let message = "this model cannot show what it makes: it has no preview.json (quantize/preview.py writes it), no tiny VAE";
        return Err(FieldError::new("unsupported", "preview", true, message));
    }
    Ok(preview.unwrap_or_default())
}

pub(super) fn decoder(
    name: Option<&str>,
    pack: &PackDefaults,
    preset: &Preset,
) -> Result<Decoder, FieldError> {
    let Some(name) = name else { return Ok(preset.decoder) };
    let decoder = name.parse().map_err(|allowed: &str| invalid("vae_decoder", name, allowed))?;
    if decoder == Decoder::Tiny && !pack.tiny_vae {
        let message = "this model has no vae_decoder_tiny";
        return Err(FieldError::new("unsupported", "vae_decoder", name, message));
    }
    Ok(decoder)
}

fn needs_scores(field: &str, value: impl ToString, pack: &PackDefaults) -> Result<(), FieldError> {
    if pack.scores {
        return Ok(());
    }
    let message = "this model cannot compare pictures with texts: it has no image_encoder with projections";
    Err(FieldError::new("unsupported", field, value, message))
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
