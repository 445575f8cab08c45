//! Textual-inversion files of a pack: refused by their name, or vectors of finite numbers.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use easeld::packs::Pack;
use libfuzzer_sys::fuzz_target;

/// The golden pack of tiny networks with a place for the file, in memory where there is such a place.
static PACK: LazyLock<PathBuf> = LazyLock::new(|| {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/tiny");
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(parent).expect("a temporary directory").keep();
    for part in ["shared", "consistency"] {
        copy(&golden.join(part), &directory);
    }
    fs::create_dir(directory.join("embeddings")).expect("a new directory");
    directory
});

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the golden pack") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    fs::write(PACK.join("embeddings/fox.safetensors"), bytes).expect("room for a small file");
    match Pack::open(&PACK) {
        Ok(pack) => assert!(pack.learned_words[0].vectors.iter().flatten().all(|value| value.is_finite())),
        Err(error) => assert!(error.to_string().contains("fox.safetensors"), "{error}"),
    }
});
