//! Reads the files that the `[mqtt]` table names; used by `config` and `tls`.

use std::fs;
use std::path::{Path, PathBuf};

/// No password, key or bundle of certificates is larger; a mistaken path to a device or a picture is.
const MAX_BYTES: u64 = 4 << 20;

/// Where the file `path` lies: a bare or relative name is looked for in systemd's credentials
/// directory first (`LoadCredential=mqtt-password:/etc/...`), then as it stands.
pub(super) fn locate(path: &Path, credentials: Option<&Path>) -> PathBuf {
    credentials
        .filter(|_| path.is_relative())
        .map(|directory| directory.join(path))
        .filter(|candidate| candidate.is_file())
        .unwrap_or_else(|| path.to_owned())
}

/// systemd's credentials directory, when this process has one.
pub(super) fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// The file's bytes; the error is what to tell people.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    if metadata.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} make sense", metadata.len()));
    }
    fs::read(path).map_err(unreadable)
}

/// A password from its file, less one newline at the end.
pub(super) fn read_password(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read(path)?).map_err(|_| "is not UTF-8".to_owned())?;
    let password =
        text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() {
        return Err("is empty".to_owned());
    }
    if password.len() > usize::from(u16::MAX) {
        return Err(format!("holds {} bytes; MQTT takes passwords of at most 65535", password.len()));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn one_newline_is_trimmed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for (content, password) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            (" a b \n\n", " a b \n"),
            ("ü", "ü"),
        ] {
            assert_eq!(read_password(&file(directory.path(), "p", content)).as_deref(), Ok(password));
        }
    }

    #[test]
    fn unusable_password_files_say_why() {
        let directory = tempfile::tempdir().unwrap();
        let cases: [(&[u8], &str); 4] =
            [(b"", "empty"), (b"\n", "empty"), (b"\xff\xfe", "UTF-8"), (&[b'p'; 70_000], "65535")];
        for (content, word) in cases {
            let error = read_password(&file(directory.path(), "p", content)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(read_password(directory.path()).unwrap_err().contains("not a file"));
        assert!(read_password(&directory.path().join("absent")).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn relative_names_are_found_in_the_credentials_directory() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = directory.path();
        let there = file(credentials, "mqtt-password", "x");
        assert_eq!(locate(Path::new("mqtt-password"), Some(credentials)), there);
        assert_eq!(locate(Path::new("other"), Some(credentials)), Path::new("other"));
        assert_eq!(locate(Path::new("mqtt-password"), None), Path::new("mqtt-password"));
        assert_eq!(locate(Path::new("/etc/x"), Some(credentials)), Path::new("/etc/x"));
    }
}
