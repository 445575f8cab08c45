//! Packs of tiny networks with random weights (`quantize/golden/tiny.py`).

use std::path::Path;

use tempfile::TempDir;

use crate::pack;

/// The pack called `kind`, laid together from its parts.
pub(crate) fn pack(kind: &str) -> TempDir {
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny");
    let directory = TempDir::new().expect("a temporary directory");
    pack::copy_dir(&parts.join("shared"), directory.path());
    pack::copy_dir(&parts.join(kind), directory.path());
    directory
}
