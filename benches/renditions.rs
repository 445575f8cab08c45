//! Times renditions of a 512 x 512 picture, on one core: `cargo bench --bench renditions [-- PROFILE]`.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, criterion_group, criterion_main};
use easeld::diffusion::postprocess::RgbImage;
use easeld::display::rendition::{Profiles, render};

const SIDE: usize = 512;

/// Waves of all colours: every ink has work.
fn picture() -> RgbImage {
    let wave = |at: usize, period: usize| {
        let phase = at % (2 * period);
        (phase.min(2 * period - phase) * 255 / period) as u8
    };
    let pixel = |at: usize| {
        let (x, y) = (at % SIDE, at / SIDE);
        [wave(x, 97), wave(y, 61), wave(x + y, 143)]
    };
    RgbImage { width: SIDE, height: SIDE, pixels: (0..SIDE * SIDE).flat_map(pixel).collect() }
}

fn renditions(criterion: &mut Criterion) {
    let (picture, profiles) = (picture(), Profiles::builtin());
    for name in [
        "waveshare-7in3-e6",
        "waveshare-7in3-f",
        "trmnl",
        "trmnl-png",
        "esp32-240x240",
        "hub75-64x64",
        "jpeg",
    ] {
        let profile = profiles.get(name).expect("a built-in profile");
        criterion
            .bench_function(name, |bencher| bencher.iter(|| render(&picture, profile).expect("a picture")));
    }
}

criterion_group!(benches, renditions);
criterion_main!(benches);
