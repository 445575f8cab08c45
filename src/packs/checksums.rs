//! Checksums of a pack that was just written: `easel.toml` says those of the files that are there now, so that nothing
//! reads gigabytes again to tell what pack it is.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::PackError;
use super::manifest::{Manifest, file_sha256, files_below};

/// Writes the `[checksums]` of the pack at `directory` anew, with an `easel.toml` where it has none.
///
/// # Errors
/// A file cannot be read, or `easel.toml` not written.
pub fn record_checksums(directory: &Path) -> Result<(), PackError> {
    let path = directory.join("easel.toml");
    let manifest = Manifest::read(&path)?;
    let wrap = |error: std::io::Error| PackError::new(&path, error);
    let below = files_below(directory, Path::new(""))?;
    let mut names: BTreeSet<String> = below.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    names.extend(manifest.checksums.into_keys().filter(|name| directory.join(name).is_file()));
    let mut text = if path.exists() { fs::read_to_string(&path).map_err(wrap)? } else { String::new() };
    text = without_checksums(&text);
    text.push_str("\n[checksums]\n");
    for name in names {
        let sum = file_sha256(&directory.join(&name))?;
        let _ = writeln!(text, "{} = \"{sum}\"", toml::Value::String(name));
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, &path)).map_err(wrap)
}

/// The text up to the table and from the next one on.
fn without_checksums(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            inside = line.trim().starts_with("[checksums]");
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_of_checksums_is_new() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let text = "title = \"A\" # of ours\n\n[checksums]\n\"model_index.json\" = \"00\"\n\n[presets.default]\nsteps = 4\n";
        write("model_index.json", "{}");
        write("easel.toml", text);
        record_checksums(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join("easel.toml")).unwrap();
        let sum = file_sha256(&directory.path().join("model_index.json")).unwrap();
        assert!(text.starts_with("title = \"A\" # of ours\n\n[presets.default]\nsteps = 4\n"), "{text}");
        assert!(text.ends_with(&format!("[checksums]\n\"model_index.json\" = \"{sum}\"\n")), "{text}");
        assert_eq!(Manifest::read(&directory.path().join("easel.toml")).unwrap().checksums.len(), 1);
        fs::remove_file(directory.path().join("easel.toml")).unwrap();
        record_checksums(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join("easel.toml")).unwrap();
        assert_eq!(text.trim_start(), format!("[checksums]\n\"model_index.json\" = \"{sum}\"\n"));
    }
}
