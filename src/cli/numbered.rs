//! Where several pictures of one request go.

use std::path::{Path, PathBuf};

/// Where picture `index` of `count` goes: `FILE`, or `FILE-1` and so on where there are several.
pub(super) fn numbered(out: &Path, index: usize, count: usize) -> PathBuf {
    if count == 1 {
        return out.to_owned();
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let extension = out.extension().unwrap_or_default().to_string_lossy();
    let dot = if extension.is_empty() { "" } else { "." };
    out.with_file_name(format!("{stem}-{}{dot}{extension}", index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_are_numbered() {
        assert_eq!(numbered(Path::new("a/cat.png"), 0, 1), Path::new("a/cat.png"));
        assert_eq!(numbered(Path::new("a/cat.png"), 1, 2), Path::new("a/cat-2.png"));
    }
}
