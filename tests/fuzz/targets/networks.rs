//! ONNX files: refused by their name, or run. Panics in the libraries below are part of what is refused, so only what
//! ends the process or takes memory without bound is found here.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use easeld::engine::{Component, EngineOptions};
use libfuzzer_sys::fuzz_target;
use ndarray::ArrayD;

static PACK: LazyLock<PathBuf> = LazyLock::new(|| {
    // libFuzzer's own hook ends the process before the engine can catch a panic.
    std::panic::set_hook(Box::new(|_| {}));
    let directory = tempfile::tempdir().expect("a temporary directory").keep();
    fs::create_dir(directory.join("vae_decoder")).expect("a new directory");
    directory
});

fuzz_target!(|bytes: &[u8]| {
    let file = PACK.join("vae_decoder/model.onnx");
    fs::write(&file, bytes).expect("room for a small file");
    let options = EngineOptions { threads: 1, memory: Some(256 << 20), ..EngineOptions::default() };
    let mut network = Component::open(&PACK, "vae_decoder", options).expect("the file is there");
    let latents = ArrayD::<f32>::zeros(vec![1, 4, 4, 4]);
    if let Err(error) = network.run(&[("latent_sample", latents.view())]) {
        let error = error.to_string();
        assert!(error.contains("vae_decoder"), "{error}");
    }
});
