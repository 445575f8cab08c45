//! `easeld pack quantize`: an int8 pack of a float one, which makes the same pictures and is what it says it is.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;
#[path = "common/psnr.rs"]
mod psnr;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use easeld::diffusion::postprocess::RgbImage;
use easeld::display;

fn easeld(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_easeld")).args(arguments).assert()
}

fn picture(model: &Path, out: &Path) -> RgbImage {
    let (model, out) = (model.to_str().unwrap(), out.to_str().unwrap());
    easeld(&["generate", "a fox", "--model", model, "-o", out, "--seed", "7"]).success();
    display::read_picture(&fs::read(out).unwrap()).unwrap()
}

#[test]
fn the_int8_pack_makes_the_float_packs_picture_and_knows_its_checksums() {
    let source = tiny::pack("consistency");
    let manifest = "title = \"Tiny\"\n\n[checksums]\n\"unet/model.onnx\" = \"00\"\n";
    fs::write(source.path().join("easel.toml"), manifest).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("int8");
    let [from, to] = [source.path(), &target].map(|path| path.to_str().unwrap().to_owned());
    let said = easeld(&["pack", "quantize", &from, &to]).success();
    let said = String::from_utf8_lossy(&said.get_output().stdout).into_owned();
    assert!(said.contains("unet: ") && said.contains("vae_decoder: "), "{said}");

    let bytes = |pack: &Path| fs::metadata(pack.join("unet/model.onnx")).unwrap().len();
    assert!(bytes(&target) < bytes(source.path()), "{} of {} bytes", bytes(&target), bytes(source.path()));
    easeld(&["pack", "verify", &to]).success();
    let [ours, theirs] = [(&target, "int8.png"), (&source.path().to_owned(), "float.png")]
        .map(|(pack, name)| picture(pack, &directory.path().join(name)));
    let psnr = psnr::psnr(&ours, &theirs);
    assert!(psnr > 40.0, "{psnr} dB between the pack in int8 and the float one");

    let refused = easeld(&["pack", "quantize", &from, &to]).failure();
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("exists"));
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn a_pack_that_cannot_be_quantized_leaves_nothing() {
    let source = tiny::pack("consistency");
    fs::write(source.path().join("vae_decoder/model.onnx"), b"no network").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("int8");
    let refused =
        easeld(&["pack", "quantize", source.path().to_str().unwrap(), target.to_str().unwrap()]).failure();
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("vae_decoder/model.onnx") && said.contains("not an ONNX file"), "{said}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
