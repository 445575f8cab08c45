//! `easeld generate` on the bundled pack: the real binary, real networks, real files.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use ndarray::Array4;
use serde_json::Value;
use tempfile::TempDir;

fn easeld() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_easeld"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command
}

/// Runs `generate` with the bundled pack and `args`; the caller looks at the outcome.
fn generate(args: &[&str]) -> assert_cmd::assert::Assert {
    easeld().arg("generate").args(["--model", pack::bundled().to_str().unwrap()]).args(args).assert()
}

fn stderr(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_seed_gives_the_same_bytes_twice_and_another_seed_gives_others() {
    let dir = TempDir::new().unwrap();
    let make = |name: &str, seed: &str| {
        let out = path(&dir, name);
        generate(&["a cat on a blue background", "-o", &out, "--seed", seed, "--steps", "2"]).success();
        fs::read(out).unwrap()
    };
    let first = make("a.png", "7");
    assert_eq!(first, make("b.png", "7"));
    assert_ne!(first, make("c.png", "8"));
    assert_eq!(image::load_from_memory(&first).unwrap().to_rgb8().dimensions(), (128, 128));
    let parameters = easeld::display::read_text(&first, "parameters").unwrap().unwrap();
    assert!(parameters.starts_with("a cat on a blue background\nSteps: 2, "), "{parameters}");
    assert!(parameters.contains("Seed: 7, Size: 128x128"), "{parameters}");
}

#[test]
fn json_tells_where_the_time_went() {
    let dir = TempDir::new().unwrap();
    let out = path(&dir, "a.png");
    let assert =
        generate(&["rocket", "-o", &out, "--steps", "3", "--seed", "4294967295", "--json"]).success();
    let report: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(report["seed"], 4_294_967_295_u32);
    assert_eq!(
        (&report["width"], &report["height"], &report["steps"]),
        (&128.into(), &128.into(), &3.into())
    );
    assert_eq!(report["model"], "emoji");
    assert_eq!(report["pack_hash"].as_str().unwrap().len(), 64);
    assert_eq!(report["file"], out.as_str());
    let seconds = |stage: &str| report["seconds"][stage].as_f64().unwrap();
    let stages = ["load", "text_encoder", "unet", "vae_decoder"].map(seconds);
    assert!(stages.iter().all(|s| *s > 0.0), "{stages:?}");
    let sum: f64 = stages.iter().sum();
    assert!(sum <= seconds("total") && sum > 0.9 * seconds("total"), "{sum} of {}", seconds("total"));
}

#[test]
fn latents_given_replace_the_seed_and_final_ones_can_be_kept() {
    let dir = TempDir::new().unwrap();
    let noise = easeld::diffusion::latents::TorchGenerator::new(11).randn(12 * 16 * 16);
    let noise = Array4::from_shape_vec((1, 12, 16, 16), noise).unwrap();
    ndarray_npy::write_npy(dir.path().join("noise.npy"), &noise).unwrap();
    let common = ["an owl on teal", "--steps", "2"];
    let (a, b) = (path(&dir, "a.npy"), path(&dir, "b.npy"));
    let out = path(&dir, "a.png");
    generate(&[&common[..], &["-o", &out, "--seed", "11", "--dump-latents", &a]].concat()).success();
    let given = path(&dir, "noise.npy");
    generate(
        &[&common[..], &["-o", &out, "--seed", "99", "--latents", &given, "--dump-latents", &b]].concat(),
    )
    .success();
    let read = |file: &str| -> Array4<f32> { ndarray_npy::read_npy(file).unwrap() };
    assert_eq!(read(&a), read(&b));
    assert_ne!(read(&a), noise);

    let small = path(&dir, "small.npy");
    ndarray_npy::write_npy(&small, &Array4::<f32>::zeros((1, 12, 8, 16))).unwrap();
    let assert = generate(&["cat", "-o", &out, "--latents", &small]).code(1);
    assert!(
        stderr(&assert).contains("latents have shape [1, 12, 8, 16], this request needs [1, 12, 16, 16]")
    );
}

#[test]
fn a_batch_file_makes_one_picture_a_line_and_checks_all_lines_first() {
    let dir = TempDir::new().unwrap();
    let requests = path(&dir, "requests.jsonl");
    let out = path(&dir, "out");
    let run = || generate(&["--batch-file", &requests, "--out-dir", &out]);
    let one = r#"{"id": "one", "prompt": "cat", "steps": 1, "seed": 1}"#;

    fs::write(&requests, format!("{one}\n\n{}\n", r#"{"id": "two", "prompt": "dog", "steps": 0}"#)).unwrap();
    let message = stderr(&run().code(1));
    assert!(message.contains("line 3") && message.contains("steps"), "{message}");
    assert!(!Path::new(&out).join("one.png").exists(), "nothing is made when a line is wrong");

    fs::write(&requests, format!("{one}\n{one}\n")).unwrap();
    assert!(stderr(&run().code(1)).contains("'one' stands on an earlier line too"));

    fs::write(&requests, r#"{"id": "one", "prompt": "cat", "model": "cats"}"#).unwrap();
    let message = stderr(&run().code(1));
    assert!(message.contains("line 1: model: 'cats'") && message.contains("--model"), "{message}");

    let two = r#"{"id": "two", "prompt": "dog", "steps": 1, "seed": 1, "model": "emoji"}"#;
    fs::write(&requests, format!("{one}\n{two}")).unwrap();
    run().success();
    let [one, two] = ["one", "two"].map(|id| fs::read(Path::new(&out).join(format!("{id}.png"))).unwrap());
    assert_ne!(one, two);
}

#[test]
fn every_bad_option_is_refused_by_name_value_and_what_is_allowed() {
    let dir = TempDir::new().unwrap();
    let out = path(&dir, "a.png");
    let long = "x".repeat(1 << 20);
    let cases: &[(&[&str], &[&str])] = &[
        (&["", "--steps", "1"], &["prompt"]),
        (&["a\u{7}b"], &["prompt"]),
        (&["cat", "--steps", "0"], &["steps", "0", "200"]),
        (&["cat", "--steps", "201"], &["steps", "201", "200"]),
        (&["cat", "--width", "65"], &["width", "65", "multiple"]),
        (&["cat", "--height", "0"], &["height", "0"]),
        (&["cat", "--width", "1048576", "--height", "1048576"], &["width", "1048576"]),
        (&["cat", "--guidance-scale", "NaN"], &["guidance_scale", "NaN"]),
        (&["cat", "--seed", "4294967296"], &["seed", "4294967296", "4294967295"]),
        (&["cat", "--scheduler", "magic"], &["scheduler", "magic", "dpmpp-2m"]),
        (&["cat", "--scheduler-options", "{\"solver_ordre\": 2}"], &["solver_ordre", "solver_order"]),
    ];
    for (args, words) in cases {
        let message = stderr(&generate(&[args, &["-o", &out][..]].concat()).code(1));
        for word in *words {
            assert!(message.contains(word), "{args:?} should say '{word}': {message}");
        }
    }
    let requests = path(&dir, "long.jsonl");
    fs::write(&requests, format!("{{\"id\": \"a\", \"prompt\": \"{long}\"}}")).unwrap();
    let message = stderr(&generate(&["--batch-file", &requests, "--out-dir", &path(&dir, "out")]).code(1));
    assert!(message.contains("prompt") && message.contains("4096") && message.len() < 1000, "{message}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_picture_may_begin_from_a_file_and_keep_what_a_mask_says() {
    let dir = TempDir::new().unwrap();
    let [begin, mask, out] = ["begin.png", "mask.png", "out.png"].map(|name| path(&dir, name));
    generate(&["a cat on a blue background", "-o", &begin, "--seed", "7"]).success();
    image::GrayImage::from_fn(128, 128, |x, _| image::Luma([if x < 64 { 0 } else { 255 }]))
        .save(&mask)
        .unwrap();
    let from = ["--init-image", &begin, "--mask", &mask, "--strength", "1", "--seed", "3"];
    generate(&[&["a pizza on a blue background", "-o", &out][..], &from].concat()).success();
    let [begin, out] = [&begin, &out].map(|path| image::open(path).unwrap().to_rgb8());
    let apart = |columns: std::ops::Range<u32>| {
        let pixels = columns.flat_map(|x| (0..128).map(move |y| (x, y)));
        let levels = pixels.map(|(x, y)| {
            let pair = begin.get_pixel(x, y).0.iter().zip(out.get_pixel(x, y).0);
            pair.map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>() / 3.0
        });
        levels.sum::<f64>() / 128.0
    };
    let (kept, repainted) = (apart(0..48) / 48.0, apart(80..128) / 48.0);
    // What the VAE itself loses: about 4 of 255.
    assert!(kept < 6.0, "what stays moved by {kept} of 255");
    assert!(repainted > 4.0 * kept, "{repainted} against {kept}");
}

#[test]
fn pictures_that_cannot_be_begun_from_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let [begin, small, text, liar] = ["a.png", "b.png", "c.txt", "d.png"].map(|name| path(&dir, name));
    image::RgbImage::new(128, 128).save(&begin).unwrap();
    image::RgbImage::new(64, 128).save(&small).unwrap();
    fs::write(&text, "no picture").unwrap();
    // 100,000 x 100,000 pixels, with the header's checksum made good.
    let mut bytes = fs::read(&begin).unwrap();
    bytes[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    fs::write(&liar, bytes).unwrap();
    let out = path(&dir, "out.png");
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--init-image", &text], &["--init-image", "c.txt", "not a PNG or JPEG"]),
        (&["--init-image", &liar], &["--init-image", "d.png", "8192"]),
        (&["--init-image", "/nonexistent.png"], &["--init-image", "/nonexistent.png"]),
        (
            &["--init-image", &begin, "--mask", &small],
            &["mask", "64 x 128", "as large as init_image, 128 x 128"],
        ),
        (&["--init-image", &begin, "--strength", "0"], &["strength", "got 0", "above 0, at most 1"]),
        (
            &["--init-image", &begin, "--strength", "0.01"],
            &["strength", "got 0.01", "leaves none of 8 steps"],
        ),
    ];
    for (args, wanted) in cases {
        let assert = generate(&[&["a cat", "-o", &out][..], args].concat()).code(1);
        let said = stderr(&assert);
        assert!(wanted.iter().all(|part| said.contains(part)), "{args:?}: {said}");
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn a_grid_shows_every_value_of_two_fields() {
    let dir = TempDir::new().unwrap();
    let out = path(&dir, "grid.png");
    let axes = ["--grid", "steps=1,2,4", "scheduler=ddim,euler"];
    generate(&[&["a cat on a blue background", "-o", &out, "--seed", "7"][..], &axes].concat()).success();
    let sheet = image::open(&out).unwrap().to_rgb8();
    assert!(sheet.width() > 3 * 128 && sheet.height() > 2 * 128, "{:?}", sheet.dimensions());
    assert!(sheet.width() < 3 * 128 + 160 && sheet.height() < 2 * 128 + 40, "{:?}", sheet.dimensions());
    for (axis, wanted) in [("width=64,128", "cannot be varied"), ("steps=0", "steps"), ("steps=x", "'x'")] {
        let said = stderr(&generate(&["a cat", "-o", &out, "--grid", axis]).failure());
        assert!(said.contains(wanted), "{axis}: {said}");
    }
}

#[test]
fn blocked_words_are_refused_and_upscaling_makes_larger_files() {
    let dir = TempDir::new().unwrap();
    let [out, config] = ["a.png", "config.toml"].map(|name| path(&dir, name));
    fs::write(&config, "[limits]\nblocked_words = [\"cat\"]\nmax_output_pixels = 70000\n").unwrap();
    let with = ["-o", &out, "--config", &config, "--seed", "7", "--steps", "2"];
    for prompt in ["a Cat on red", "a {dog|cat} on red"] {
        let said = stderr(&generate(&[&[prompt][..], &with].concat()).code(1));
        assert!(said.contains("prompt") && said.contains("'cat' is not painted here"), "{said}");
    }
    let said = stderr(&generate(&[&["a category", "--upscale", "3"][..], &with].concat()).code(1));
    assert!(said.contains("upscale") && said.contains("70000"), "{said}");
    generate(&[&["a category", "--upscale", "2"][..], &with].concat()).success();
    assert_eq!(image::open(&out).unwrap().to_rgb8().dimensions(), (256, 256));
}

#[test]
fn every_damaged_pack_is_refused_by_file_and_reason() {
    let truncate = |file: &'static str| {
        move |pack: &Path| {
            let bytes = fs::read(pack.join(file)).unwrap();
            fs::write(pack.join(file), &bytes[..bytes.len() / 2]).unwrap();
        }
    };
    let remove = |file: &'static str| move |pack: &Path| fs::remove_file(pack.join(file)).unwrap();
    let write =
        |file: &'static str, text: &'static str| move |pack: &Path| fs::write(pack.join(file), text).unwrap();
    let swap = |pack: &Path| {
        fs::copy(pack.join("vae_decoder/model.onnx"), pack.join("unet/model.onnx")).unwrap();
    };
    let diverge = |pack: &Path| {
        // A tensor of the file: its name (field 8), then its bytes (field 9) and how many they are.
        let mut bytes = fs::read(pack.join("unet/model.onnx")).unwrap();
        let name = b"conv_out.bias\x4a";
        let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 1;
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(pack.join("unet/model.onnx"), bytes).unwrap();
    };
    let cases: Vec<(TempDir, &[&str])> = vec![
        (pack::damaged(remove("model_index.json")), &["model_index.json"]),
        (pack::damaged(remove("unet/model.onnx")), &["unet/model.onnx", "missing"]),
        (pack::damaged(truncate("unet/model.onnx")), &["unet/model.onnx", "truncated"]),
        (pack::damaged(truncate("text_encoder/model.onnx")), &["text_encoder/model.onnx", "truncated"]),
        (pack::damaged(write("vae_decoder/model.onnx", "")), &["vae_decoder/model.onnx"]),
        (
            pack::damaged(write("unet/config.json", "{\"in_channels\": \"four\"}")),
            &["unet/config.json", "four"],
        ),
        (pack::damaged(write("scheduler/scheduler_config.json", "[]")), &["scheduler_config.json"]),
        (pack::damaged(write("easel.toml", "titel = \"x\"")), &["easel.toml", "titel"]),
        (pack::damaged(remove("tokenizer/merges.txt")), &["merges.txt"]),
        (pack::damaged(swap), &["unet/model.onnx", "sample"]),
        (pack::damaged(diverge), &["once more in f32", "not finite after step 1 of 1"]),
    ];
    for (pack, words) in &cases {
        let out = pack.path().join("out.png");
        let assert = easeld()
            .args(["generate", "cat", "--steps", "1", "-o", out.to_str().unwrap(), "--model"])
            .arg(pack.path())
            .assert()
            .code(1);
        let message = stderr(&assert);
        for word in *words {
            assert!(message.contains(word), "should say '{word}': {message}");
        }
        assert!(!message.contains("panicked"), "{message}");
        assert!(!out.exists());
    }
}

#[test]
fn a_pack_that_is_not_there_says_where_it_was_looked_for() {
    let message = stderr(
        &easeld().args(["generate", "cat", "-o", "/dev/null", "--model", "mona-lisa"]).assert().code(1),
    );
    assert!(message.contains("mona-lisa") && message.contains("/usr/share/easeld/models"), "{message}");
}

#[test]
fn usage_errors_exit_2() {
    easeld().args(["generate"]).assert().code(2);
    easeld().args(["generate", "cat", "-o", "a.png", "--steps", "many"]).assert().code(2);
}
