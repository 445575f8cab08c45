//! The token or PIN: read from a file, kept as a digest, compared without telling how near a guess was.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::jobs::worker::hex;

/// Fewer characters are guessed within a day at the rate that wrong tokens are taken.
const LENGTH_MIN: usize = 4;
/// It travels in a header.
const LENGTH_MAX: usize = 512;
/// Characters of the key to pictures: 128 bits.
const KEY_LENGTH: usize = 32;

/// See the module. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    digest: [u8; 32],
    picture_key: String,
    digits: bool,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// Reads the one line of the file `path`; a bare or relative name is looked for in systemd's credentials directory first.
    ///
    /// # Errors
    /// What is wrong with it, for people. Its content never shows.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let there = credentials.filter(|_| path.is_relative()).map(|directory| directory.join(path));
        let path = there.filter(|path| path.is_file()).unwrap_or_else(|| path.to_owned());
        let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
        Self::parse(text.trim_end_matches(['\r', '\n']))
    }

    fn parse(text: &str) -> Result<Self, String> {
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&text.len()) {
            return Err(format!(
                "holds {} characters; a token or PIN has {LENGTH_MIN} to {LENGTH_MAX}",
                text.len()
            ));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be one line of printable ASCII without blanks".to_owned());
        }
        let digest: [u8; 32] = Sha256::digest(text).into();
        let mut key = Sha256::new();
        key.update(b"easeld picture key");
        key.update(digest);
        let mut picture_key = hex(&key.finalize());
        picture_key.truncate(KEY_LENGTH);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self { digest, picture_key, digits })
    }

    /// Whether `shown` is it.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(shown).into();
        digest.ct_eq(&self.digest).into()
    }

    /// Opens pictures and nothing else, for displays that know URLs only. The token cannot be had from it.
    pub(super) fn picture_key(&self) -> &str {
        &self.picture_key
    }

    /// Whether `shown` is the key to pictures.
    pub(super) fn is_picture_key(&self, shown: &[u8]) -> bool {
        shown.ct_eq(self.picture_key.as_bytes()).into()
    }

    /// A PIN: a pad of digits will do to type it.
    pub(super) fn is_pin(&self) -> bool {
        self.digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_is_taken_and_nothing_shows_it() {
        let secret = Secret::parse("s3cret-token").expect("valid");
        assert!(secret.is(b"s3cret-token"));
        for wrong in ["", "s3cret-toke", "s3cret-token ", "S3cret-token", secret.picture_key()] {
            assert!(!secret.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(secret.is_picture_key(secret.picture_key().as_bytes()));
        assert!(!secret.is_picture_key(b"s3cret-token"));
        assert!(!format!("{secret:?}").contains("s3cret") && !secret.is_pin());
        assert!(Secret::parse("2468").expect("a PIN").is_pin());
    }

    #[test]
    fn unusable_files_say_why_without_their_content() {
        let directory = tempfile::tempdir().expect("a directory");
        for (content, word) in [("", "0 characters"), ("abc\n", "3 characters"), ("two words\n", "ASCII")] {
            let path = directory.path().join("token");
            std::fs::write(&path, content).expect("written");
            let error = Secret::read(&path).expect_err(content);
            assert!(error.contains(word) && !error.contains("two"), "{error}");
        }
        assert!(Secret::read(&directory.path().join("none")).expect_err("absent").contains("cannot be read"));
    }
}
