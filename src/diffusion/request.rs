//! A checked request for one picture. Whoever holds a [`GenerationRequest`] need not check it again.

use super::presets::{PackDefaults, Preset};
use super::schedulers::{self, SchedulerName};

/// Longest side that is considered at all, in pixels: keeps every later product inside 64 bits.
const SIDE_MAX: u64 = 65_536;
/// Largest `guidance_scale`. Beyond some tens a picture is noise; the bound only keeps f32 finite.
const GUIDANCE_MAX: f64 = 100.0;

/// Something a person asked for is not allowed: which field, what it was, what would do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {message} (got {value})")]
pub struct FieldError {
    /// A stable word for programs: `invalid_value`, `unknown_field`, `too_long`, `unsupported`, ...
    pub code: &'static str,
    /// The request field, as the wire spells it.
    pub field: String,
    /// The value met, shortened to at most 80 characters.
    pub value: String,
    /// What is allowed.
    pub message: String,
}

impl FieldError {
    /// A [`FieldError`] with its value shortened for display.
    pub fn new(code: &'static str, field: &str, value: impl ToString, message: impl Into<String>) -> Self {
        Self { code, field: field.to_owned(), value: shorten(&value.to_string()), message: message.into() }
    }
}

/// At most 80 characters, control characters escaped, so that an error cannot flood a log or a terminal.
fn shorten(value: &str) -> String {
    const KEPT: usize = 77;
    let mut escaped = value.chars().flat_map(|c| {
        let plain = !c.is_control();
        plain.then_some(c).into_iter().chain((!plain).then(|| c.escape_default()).into_iter().flatten())
    });
    let head: String = escaped.by_ref().take(KEPT).collect();
    if escaped.next().is_some() { head + "..." } else { head }
}

/// Bounds that the configuration sets on requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Longest `prompt` or `negative_prompt`, in bytes of UTF-8.
    pub max_prompt_bytes: usize,
    /// Largest `steps`.
    pub max_steps: usize,
    /// Largest `width * height`.
    pub max_pixels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_prompt_bytes: 4096, max_steps: 200, max_pixels: 1_048_576 }
    }
}

/// One picture's request as it arrives: every field optional but the prompt, nothing checked yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawRequest {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show.
    pub negative_prompt: Option<String>,
    /// A preset of the pack, whose values stand in for the fields left out.
    pub preset: Option<String>,
    /// 0 to 4294967295; chosen at random when absent.
    pub seed: Option<u64>,
    /// `num_inference_steps`.
    pub steps: Option<u64>,
    /// Classifier-free guidance.
    pub guidance_scale: Option<f64>,
    /// A name of the scheduler table.
    pub scheduler: Option<String>,
    /// diffusers' configuration names, over the pack's own.
    pub scheduler_options: serde_json::Map<String, serde_json::Value>,
    /// Pixels.
    pub width: Option<u64>,
    /// Pixels.
    pub height: Option<u64>,
}

/// A request that keeps all bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// What the picture shows; not empty, no control characters but newline and tab.
    pub prompt: String,
    /// What it should not show; may be empty.
    pub negative_prompt: String,
    /// Seeds PyTorch's CPU generator.
    pub seed: u32,
    /// 1 to `max_steps`.
    pub num_inference_steps: usize,
    /// Finite, 0 to 100.
    pub guidance_scale: f64,
    /// The pack's own scheduler when `None`.
    pub scheduler: Option<SchedulerName>,
    /// diffusers' configuration names, over the pack's own.
    pub scheduler_options: serde_json::Map<String, serde_json::Value>,
    /// Pixels of the finished picture.
    pub width: usize,
    /// Pixels of the finished picture.
    pub height: usize,
    /// The picture is made this many times larger along each side and averaged down; 1 for most.
    /// Width and height times this are multiples of [`PackDefaults::size_multiple`].
    pub magnification: usize,
    /// The component of the pack that denoises.
    pub unet: String,
}

impl GenerationRequest {
    /// Checks `raw` against `limits` and what `pack` allows, and fills what it leaves open.
    ///
    /// `random_seed` is asked only when no seed is given; it is a parameter because the domain owns no entropy.
    ///
    /// # Errors
    /// The first field that breaks a bound, in the order of [`RawRequest`]'s fields. Codes: `missing_field`,
    /// `too_long`, `invalid_value`.
    pub fn new(
        raw: RawRequest,
        limits: &Limits,
        pack: &PackDefaults,
        random_seed: impl FnOnce() -> u32,
    ) -> Result<Self, FieldError> {
        if raw.prompt.trim().is_empty() {
            return Err(FieldError::new(
                "missing_field",
                "prompt",
                &raw.prompt,
                "a prompt must say what the picture shows; it is empty",
            ));
        }
        check_text("prompt", &raw.prompt, limits)?;
        let negative_prompt = raw.negative_prompt.unwrap_or_default();
        check_text("negative_prompt", &negative_prompt, limits)?;
        let seed = match raw.seed {
            Some(seed) => u32::try_from(seed)
                .map_err(|_| invalid("seed", seed, format!("a whole number from 0 to {}", u32::MAX)))?,
            None => random_seed(),
        };
        let preset = pack.preset(raw.preset.as_deref())?;
        let num_inference_steps = check_steps(raw.steps, limits, preset)?;
        let guidance_scale = check_guidance(raw.guidance_scale, preset)?;
        let scheduler = check_scheduler(raw.scheduler)?.or_else(|| preset.scheduler.clone());
        check_schedule(scheduler.as_ref(), &raw.scheduler_options, num_inference_steps, pack)?;
        let (width, height, magnification) = check_size(raw.width, raw.height, limits, pack, preset)?;
        Ok(Self {
            prompt: raw.prompt,
            negative_prompt,
            seed,
            num_inference_steps,
            guidance_scale,
            scheduler,
            scheduler_options: raw.scheduler_options,
            width,
            height,
            magnification,
            unet: preset.unet.clone(),
        })
    }
}

fn invalid(field: &str, value: impl ToString, message: impl Into<String>) -> FieldError {
    FieldError::new("invalid_value", field, value, message)
}

/// Length and control characters. Newline and tab are what people type and a tokenizer treats as blanks; any other
/// control character is a broken encoder or an attack on whoever prints the prompt.
fn check_text(field: &str, text: &str, limits: &Limits) -> Result<(), FieldError> {
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

fn check_steps(steps: Option<u64>, limits: &Limits, preset: &Preset) -> Result<usize, FieldError> {
    // A pack may default to more steps than a small board's owner allows: the owner's bound wins.
    let Some(steps) = steps else {
        return Ok(preset.steps.clamp(1, limits.max_steps.max(1)));
    };
    usize::try_from(steps).ok().filter(|steps| (1..=limits.max_steps).contains(steps)).ok_or_else(|| {
        let allowed = format!("a whole number from 1 to {}", limits.max_steps);
        invalid("steps", steps, allowed)
    })
}

fn check_guidance(guidance_scale: Option<f64>, preset: &Preset) -> Result<f64, FieldError> {
    let guidance_scale = guidance_scale.unwrap_or(preset.guidance_scale);
    // `contains` is false for NaN.
    if (0.0..=GUIDANCE_MAX).contains(&guidance_scale) {
        return Ok(guidance_scale);
    }
    let allowed = format!("a number from 0 to {GUIDANCE_MAX}");
    Err(invalid("guidance_scale", guidance_scale, allowed))
}

fn check_scheduler(name: Option<String>) -> Result<Option<SchedulerName>, FieldError> {
    name.map(|name| {
        name.parse::<SchedulerName>().map_err(|problem| invalid("scheduler", &name, problem.to_string()))
    })
    .transpose()
}

/// Builds the schedule once to see that it can be: options that fail later would cost a place in the queue.
fn check_schedule(
    name: Option<&SchedulerName>,
    options: &serde_json::Map<String, serde_json::Value>,
    steps: usize,
    pack: &PackDefaults,
) -> Result<(), FieldError> {
    let Some(config) = &pack.scheduler else { return Ok(()) };
    schedulers::build::<f32>(name, config, options, steps).map(|_| ()).map_err(|error| {
        let field = match error.field.as_str() {
            field @ ("scheduler" | "steps") => field.to_owned(),
            option => format!("scheduler_options.{option}"),
        };
        invalid(&field, error.value, error.message)
    })
}

/// (width, height, magnification): both sides, magnified, multiples of what the architecture needs and together within
/// `max_pixels`.
fn check_size(
    width: Option<u64>,
    height: Option<u64>,
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
    let width = side("width", width, preset.width)?;
    let height = side("height", height, preset.height)?;
    let magnification = pack.magnification(width, height);
    let multiple = pack.size_multiple;
    for (field, pixels) in [("width", width), ("height", height)] {
        if !(pixels * magnification).is_multiple_of(multiple) {
            let needed = multiple / greatest_common_divisor(multiple, magnification);
            return Err(invalid(field, pixels, format!("a multiple of {needed} pixels at this size")));
        }
    }
    // The pack's own size passes: its owner chose the pack, a requester did not ask for anything.
    let made = (width * magnification).saturating_mul(height * magnification);
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

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack() -> PackDefaults {
        let preset = Preset {
            width: 64,
            height: 64,
            steps: 8,
            guidance_scale: 3.0,
            scheduler: None,
            unet: "unet".to_owned(),
        };
        let fast = Preset { steps: 2, guidance_scale: 1.0, unet: "unet_fast".to_owned(), ..preset.clone() };
        PackDefaults::new(preset, 16).with_preset("fast", fast)
    }

    fn raw(prompt: &str) -> RawRequest {
        RawRequest { prompt: prompt.to_owned(), ..RawRequest::default() }
    }

    fn check(raw: RawRequest) -> Result<GenerationRequest, FieldError> {
        GenerationRequest::new(raw, &Limits::default(), &pack(), || 77)
    }

    #[test]
    fn a_bare_prompt_takes_the_packs_defaults_and_a_random_seed() {
        let request = check(raw("a fox")).expect("valid");
        assert_eq!(request.seed, 77);
        assert_eq!((request.width, request.height), (64, 64));
        assert_eq!(request.num_inference_steps, 8);
        assert_eq!(request.guidance_scale, 3.0);
        assert_eq!(request.negative_prompt, "");
    }

    #[test]
    fn each_bound_names_its_field_and_holds_on_both_sides() {
        let with = |change: fn(&mut RawRequest)| {
            let mut request = raw("a fox");
            change(&mut request);
            check(request)
        };
        type Change = fn(&mut RawRequest);
        let bad: [(&str, Change); 17] = [
            ("prompt", |r| r.prompt = String::new()),
            ("prompt", |r| r.prompt = " \n\t\u{3000}".to_owned()),
            ("prompt", |r| r.prompt = "x".repeat(4097)),
            ("prompt", |r| r.prompt = "a\0b".to_owned()),
            ("prompt", |r| r.prompt = "a\u{1b}[2J".to_owned()),
            ("prompt", |r| r.prompt = "a\u{9b}2J".to_owned()),
            ("negative_prompt", |r| {
                r.negative_prompt = Some("a\rb".to_owned());
            }),
            ("seed", |r| r.seed = Some(1 << 32)),
            ("steps", |r| r.steps = Some(0)),
            ("steps", |r| r.steps = Some(201)),
            ("guidance_scale", |r| r.guidance_scale = Some(f64::NAN)),
            ("guidance_scale", |r| r.guidance_scale = Some(-0.1)),
            ("guidance_scale", |r| r.guidance_scale = Some(f64::INFINITY)),
            ("width", |r| r.width = Some(0)),
            ("height", |r| r.height = Some(72)),
            ("width", |r| r.width = Some(u64::MAX - 15)),
            ("width", |r| {
                (r.width, r.height) = (Some(65_536), Some(65_536));
            }),
        ];
        for (index, (field, change)) in bad.into_iter().enumerate() {
            let error = with(change).expect_err(&format!("row {index} is out of bounds"));
            assert_eq!(error.field, field, "row {index}: {error}");
            assert!(error.value.chars().count() <= 80, "row {index}");
        }
        let good: [fn(&mut RawRequest); 6] = [
            |r| r.prompt = "x".repeat(4096),
            |r| r.prompt = "two\n\tlines".to_owned(),
            |r| r.seed = Some(u64::from(u32::MAX)),
            |r| r.steps = Some(200),
            |r| r.guidance_scale = Some(100.0),
            |r| (r.width, r.height) = (Some(1024), Some(1024)),
        ];
        for (index, change) in good.into_iter().enumerate() {
            with(change).unwrap_or_else(|error| panic!("row {index}: {error}"));
        }
    }

    #[test]
    fn an_unknown_scheduler_is_refused_by_name() {
        let error = check(RawRequest { scheduler: Some("dpmpp-9m".to_owned()), ..raw("a fox") })
            .expect_err("no such scheduler");
        assert_eq!((error.field.as_str(), error.value.as_str()), ("scheduler", "dpmpp-9m"));
    }

    #[test]
    fn a_preset_fills_in_what_the_request_leaves_out_and_nothing_else() {
        let fast = |steps| RawRequest { preset: Some("fast".to_owned()), steps, ..raw("a fox") };
        let request = check(fast(None)).expect("valid");
        assert_eq!((request.num_inference_steps, request.guidance_scale), (2, 1.0));
        assert_eq!(request.unet, "unet_fast");
        assert_eq!(check(fast(Some(4))).expect("valid").num_inference_steps, 4);
        let error =
            check(RawRequest { preset: Some("best".to_owned()), ..raw("a fox") }).expect_err("unknown");
        assert_eq!(error.field, "preset");
        assert!(error.message.contains("default, fast"), "{error}");
    }

    #[test]
    fn pictures_below_the_packs_smallest_size_are_made_larger() {
        let pack = pack().with_smallest(128);
        let size = |width, height| {
            let raw = RawRequest { width: Some(width), height: Some(height), ..raw("a fox") };
            GenerationRequest::new(raw, &Limits::default(), &pack, || 0)
        };
        let made = |width, height| size(width, height).map(|r| (r.width, r.height, r.magnification));
        assert_eq!(made(128, 128), Ok((128, 128, 1)));
        assert_eq!(made(64, 64), Ok((64, 64, 2)));
        assert_eq!(made(64, 32), Ok((64, 32, 4)));
        assert_eq!(made(104, 104), Ok((104, 104, 2)));
        let error = size(100, 100).expect_err("200 is no multiple of 16");
        assert!(error.message.contains("multiple of 8"), "{error}");
        let error = size(1024, 1).expect_err("131072 x 128");
        assert_eq!(error.code, "too_large");
    }
}
