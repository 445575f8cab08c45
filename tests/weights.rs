//! Where weights come from changes nothing in the picture: `easeld generate --weights`, and the configuration's key.

#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::path::Path;

use assert_cmd::Command;

fn picture(pack: &Path, out: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_easeld"));
    command.args(["generate", "a fox on red", "--seed", "1", "--steps", "2", "--model"]).arg(pack);
    command.arg("-o").arg(out).args(arguments).envs(variables.iter().copied()).assert().success();
    fs::read(out).expect("the picture")
}

#[test]
fn a_picture_is_the_same_with_streamed_weights() {
    let pack = tiny::pack("consistency");
    // Elsewhere: the pack's hash, which the picture carries, covers all of the pack's files.
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let out = elsewhere.path().join("out.png");
    let mapped = picture(pack.path(), &out, &["--weights", "mapped"], &[]);
    assert!(pack.path().join("unet/model.packed").is_file());
    assert_eq!(mapped, picture(pack.path(), &out, &["--weights", "streamed"], &[]));
    let variables = [("EASELD__INFERENCE__WEIGHTS", "streamed")];
    assert_eq!(mapped, picture(pack.path(), &out, &[], &variables));
}

#[test]
fn a_source_that_is_none_is_refused_with_those_that_are() {
    let pack = tiny::pack("consistency");
    let mut command = Command::new(env!("CARGO_BIN_EXE_easeld"));
    command.args(["generate", "a fox", "-o", "fox.png", "--model"]).arg(pack.path());
    let output = command.env("EASELD__INFERENCE__WEIGHTS", "guessed").output().expect("easeld starts");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{message}");
    assert!(message.contains("guessed") && message.contains("\"mapped\" or \"streamed\""), "{message}");
}
