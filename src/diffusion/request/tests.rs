//! Bounds of requests, each on both sides.

use super::*;
use crate::diffusion::presets::{Masking, Preset, Room};

fn pack() -> PackDefaults {
    let preset = Preset {
        width: 64,
        height: 64,
        steps: 8,
        guidance_scale: 3.0,
        scheduler: None,
        unet: "unet".to_owned(),
        time_cond_proj_dim: None,
        decoder: Decoder::Full,
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
    assert_eq!(request.guidance.scale, 3.0);
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
    let bad: [(&str, Change); 32] = [
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
        ("cache_interval", |r| r.cache_interval = Some(0)),
        ("cache_interval", |r| r.cache_interval = Some(u64::MAX)),
        ("guidance_rescale", |r| r.guidance_rescale = Some(1.1)),
        ("guidance_start", |r| r.guidance_start = Some(-0.1)),
        ("guidance_stop", |r| r.guidance_stop = Some(f64::NAN)),
        ("guidance_stop", |r| (r.guidance_start, r.guidance_stop) = (Some(0.6), Some(0.5))),
        ("variation_seed", |r| (r.variation_seed, r.variation_strength) = (Some(1 << 32), Some(0.1))),
        ("variation_seed", |r| r.variation_seed = Some(3)),
        ("variation_strength", |r| r.variation_strength = Some(1.01)),
        ("upscale", |r| r.upscale = Some(0)),
        ("upscale", |r| r.upscale = Some(9)),
        ("upscale", |r| (r.width, r.height, r.upscale) = (Some(1024), Some(1024), Some(5))),
        ("num_images", |r| r.num_images = Some(0)),
        ("num_images", |r| r.num_images = Some(17)),
        ("candidates", |r| (r.num_images, r.candidates) = (Some(4), Some(3))),
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
    let good: [fn(&mut RawRequest); 10] = [
        |r| r.prompt = "x".repeat(4096),
        |r| r.prompt = "two\n\tlines".to_owned(),
        |r| r.seed = Some(u64::from(u32::MAX)),
        |r| r.steps = Some(200),
        |r| r.guidance_scale = Some(100.0),
        |r| (r.guidance_rescale, r.guidance_start, r.guidance_stop) = (Some(1.0), Some(0.5), Some(0.5)),
        |r| (r.variation_seed, r.variation_strength) = (Some(0), Some(1.0)),
        |r| (r.num_images, r.candidates) = (Some(16), Some(16)),
        |r| (r.width, r.height, r.upscale) = (Some(1024), Some(1024), Some(4)),
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
    assert!(error.message.contains("auto, or a name of the table"), "{}", error.message);
}

#[test]
fn auto_means_the_scheduler_that_suits_the_number_of_steps() {
    let chosen = |steps| {
        let request = check(RawRequest { scheduler: Some("auto".to_owned()), steps, ..raw("a fox") });
        request.expect("valid").scheduler.expect("one is chosen").to_string()
    };
    assert_eq!(chosen(Some(4)), "unipc");
    assert_eq!(chosen(Some(20)), "unipc-karras");
}

#[test]
fn a_preset_fills_in_what_the_request_leaves_out_and_nothing_else() {
    let fast = |steps| RawRequest { preset: Some("fast".to_owned()), steps, ..raw("a fox") };
    let request = check(fast(None)).expect("valid");
    assert_eq!((request.num_inference_steps, request.guidance.scale), (2, 1.0));
    assert_eq!(request.unet, "unet_fast");
    assert_eq!(check(fast(Some(4))).expect("valid").num_inference_steps, 4);
    let error = check(RawRequest { preset: Some("best".to_owned()), ..raw("a fox") }).expect_err("unknown");
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

#[test]
fn pictures_that_do_not_fit_into_memory_are_refused_with_numbers_the_packs_own_size_too() {
    let check = |room: Room, side: Option<u64>| {
        let raw = RawRequest { width: side, height: side, ..raw("a fox") };
        let request = GenerationRequest::new(raw, &Limits::default(), &pack().with_room(Some(room)), || 0);
        request.map(|request| request.width)
    };
    let room = |pixels| Room::Pixels { pixels, bytes: 32 << 20 };
    assert_eq!(check(room(64 * 64), None), Ok(64));
    let error = check(room(40 * 40), Some(128)).expect_err("ten times as much");
    assert_eq!((error.code, error.field.as_str(), error.value.as_str()), ("no_memory", "width", "128x128"));
    assert!(error.message.contains("about 328 MiB") && error.message.contains("leaves 32 MiB"), "{error}");
    assert!(error.message.ends_with("at most 1600 pixels, such as 32x32"), "{error}");
    let error = check(room(40 * 40), None).expect_err("its own size");
    assert_eq!(error.code, "no_memory");
    let error = check(Room::Nothing("not packed".to_owned()), Some(16)).expect_err("nothing fits");
    assert_eq!((error.code, error.message.as_str()), ("no_memory", "not packed"));
}

#[test]
fn choosing_among_pictures_needs_a_pack_that_can_compare_them() {
    let judged: [fn(&mut RawRequest); 2] = [|r| r.candidates = Some(4), |r| r.min_similarity = Some(0.2)];
    for change in judged {
        let mut request = raw("a fox");
        change(&mut request);
        let error = check(request.clone()).expect_err("the pack has no image tower");
        assert_eq!(error.code, "unsupported", "{error}");
        let pack = pack().with_scores(true);
        let request = GenerationRequest::new(request, &Limits::default(), &pack, || 0).expect("this one has");
        assert!(request.is_judged());
    }
    let plain = check(RawRequest { candidates: Some(3), num_images: Some(3), ..raw("a fox") });
    assert!(!plain.expect("nothing to choose").is_judged());
}

fn encoded(width: usize, height: usize) -> Option<EncodedPicture> {
    Some(EncodedPicture { bytes: [1, 2, 3].into(), width, height })
}

#[test]
fn pictures_to_begin_from_are_bounded_and_keep_their_shape() {
    let from = |masking, change: fn(&mut RawRequest)| {
        let mut request = RawRequest { init_image: encoded(300, 200), ..raw("a fox") };
        change(&mut request);
        let pack = pack().with_encoder(true, masking);
        GenerationRequest::new(request, &Limits::default(), &pack, || 0)
    };
    type Change = fn(&mut RawRequest);
    let bad: [(Masking, &str, Change); 9] = [
        (Masking::Blend, "strength", |r| r.strength = Some(0.0)),
        (Masking::Blend, "strength", |r| r.strength = Some(1.1)),
        (Masking::Blend, "strength", |r| r.strength = Some(f64::NAN)),
        // None of eight steps is left.
        (Masking::Blend, "strength", |r| r.strength = Some(0.1)),
        (Masking::Blend, "strength", |r| (r.init_image, r.strength) = (None, Some(0.5))),
        (Masking::Blend, "mask", |r| r.mask = encoded(200, 300)),
        (Masking::Blend, "mask", |r| (r.init_image, r.mask) = (None, encoded(300, 200))),
        (Masking::Channels, "mask", |r| r.mask = None),
        (Masking::Channels, "init_image", |r| r.init_image = None),
    ];
    for (index, (masking, field, change)) in bad.into_iter().enumerate() {
        let error = from(masking, change).expect_err(&format!("row {index}"));
        assert_eq!(error.field, field, "row {index}: {error}");
    }
    let request = from(Masking::Channels, |r| r.mask = encoded(300, 200)).expect("picture and mask");
    assert_eq!(request.init_image.as_ref().map(|begin| begin.strength), Some(0.8));
    // 64 x 64 pixels in the proportions 3 : 2, in multiples of 16.
    assert_eq!((request.width, request.height), (80, 48));
    let request = from(Masking::Blend, |r| r.height = Some(96)).expect("one side is enough");
    assert_eq!((request.width, request.height), (64, 96));
    let error = check(RawRequest { init_image: encoded(64, 64), ..raw("a fox") }).expect_err("no encoder");
    assert_eq!((error.code, error.field.as_str()), ("unsupported", "init_image"));
}
