//! PNG and JPEG files: read within bounds, or refused.

#![no_main]

use easeld::display;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = display::read_text(bytes, "parameters");
    if let Ok(probed) = display::probe(bytes.to_vec()) {
        assert!((1..=8192).contains(&probed.width) && (1..=8192).contains(&probed.height));
    }
    if let Ok(picture) = display::read_picture(bytes) {
        assert_eq!(picture.pixels.len(), picture.width * picture.height * 3);
    }
});
