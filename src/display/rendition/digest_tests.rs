//! The same bytes on every machine: digests of renditions, compared on x86 and, by `tests/aarch64`, on ARM.

use sha2::{Digest, Sha256};

use super::tests::{picture, profile};
use super::*;

/// Of everything that was rendered under a name: the first 8 bytes of SHA-256.
const DIGESTS: &[(&str, &str)] = &[
    ("png", "d48f59e88cbec463"),
    ("png-1", "8902a73f741c601d"),
    ("png-2", "344ed474886e0b18"),
    ("png-4", "6dffdf800cb1ff06"),
    ("png-8", "e9b84ba7e1f39e73"),
    ("jpeg", "35e153b08a3bb7cf"),
    ("jpeg-444", "cd393054efbf3bef"),
    ("webp", "572c403f182f16ae"),
    ("bmp-1", "1260fa3ff1a8cdbd"),
    ("bmp-4", "c400e48839165f19"),
    ("bmp-8", "b069aaab1c8114ca"),
    ("bmp-24", "0458c623f048db5e"),
    ("qoi", "15a15516dc690db6"),
    ("rgb888", "f3b9528788086713"),
    ("rgb565-le", "43541cce709998ab"),
    ("rgb565-be", "762fc8c6dfae5baf"),
    ("lvgl8-rgb565", "c49b7ddfd20c64fa"),
    ("lvgl8-indexed", "b4ab49fa52304bc2"),
    ("lvgl9-rgb565", "331e7ad3a375e5dd"),
    ("lvgl9-rgb888", "bf3969623679e74c"),
    ("lvgl9-l8", "9ba30dd293fd0f6e"),
    ("lvgl9-indexed", "574cdf69502a5fd9"),
    ("packed-1", "ca67bbce7e936079"),
    ("packed-2", "8333cf6913a9fe0f"),
    ("packed-4", "46ec1415fa0d424f"),
    ("planes", "7cec66c7be03de9f"),
    ("awtrix", "f40e61dd76b545b6"),
    ("none", "f39d64a7233f17d9"),
    ("floyd-steinberg", "84b6ec13f0a5e533"),
    ("atkinson", "dc86a8657b911ed4"),
    ("stucki", "653ec3805ba0b250"),
    ("blue-noise", "8fdbc2396d9c4dff"),
    ("bayer", "e92edf4bdb392d0e"),
    ("cover", "ce9e0394a3d1a676"),
    ("contain", "53ac8db40ec5f3a1"),
    ("saliency", "ce9e0394a3d1a676"),
    ("stretch", "f18b517eadc63d35"),
];

/// Renders what is named, each in a size that no loop divides evenly.
fn rendered() -> Vec<(String, Vec<u8>)> {
    let from = picture(75, 53);
    let bytes = |profile: &Profile| render(&from, profile).expect("it fits").bytes;
    let mut all = Vec::new();
    for encoding in Encoding::ALL {
        all.push((encoding.name().to_owned(), bytes(&profile(*encoding, 61, 47))));
    }
    for dither in Dither::ALL {
        let mut of_all = Vec::new();
        for (palette, encoding) in
            [("spectra6", Encoding::Packed4), ("acep7", Encoding::Packed4), ("bwry", Encoding::Packed2)]
        {
            let mut panel = profile(encoding, 97, 61);
            let options =
                [("palette", palette), ("dither", dither.name()), ("tone", "levels"), ("saturation", "1.3")];
            for (name, value) in options {
                panel.set(name, value).expect(name);
            }
            of_all.extend(bytes(&panel));
        }
        all.push((dither.name().to_owned(), of_all));
    }
    for fit in Fit::ALL {
        let turned = Profile { fit: *fit, rotation: 90, contrast: 1.3, ..profile(Encoding::Rgb888, 40, 90) };
        all.push((fit.name().to_owned(), bytes(&turned)));
    }
    all
}

#[test]
fn every_machine_makes_the_same_bytes() {
    let hex = |bytes: &[u8]| bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found: Vec<(String, String)> =
        rendered().into_iter().map(|(name, bytes)| (name, hex(&Sha256::digest(&bytes)))).collect();
    let expected: Vec<(String, String)> =
        DIGESTS.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect();
    let lines: Vec<String> =
        found.iter().map(|(name, digest)| format!("(\"{name}\", \"{digest}\"),")).collect();
    assert_eq!(found, expected, "\n{}", lines.join("\n"));
}
