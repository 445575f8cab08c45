//! The bundled pack, and copies of it that a test may damage.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// `models/emoji` of this checkout.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji")
}

/// A copy of the bundled pack in a directory that goes with the test.
#[allow(dead_code, reason = "not every test damages a pack")]
pub(crate) fn damaged(damage: impl FnOnce(&Path)) -> TempDir {
    let copy = TempDir::new().expect("a temporary directory");
    copy_dir(&bundled(), copy.path());
    damage(copy.path());
    copy
}

#[allow(dead_code, reason = "not every test damages a pack")]
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("the bundled pack") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}
