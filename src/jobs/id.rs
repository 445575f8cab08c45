//! Names of jobs: chosen by the requester, or made here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest id, in bytes. It is part of a topic name, and requesters keep it in small buffers.
const LENGTH_MAX: usize = 64;

/// A job's name: 1 to 64 of `A-Z a-z 0-9 _ -`, so that it is one level of a topic and safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct JobId(String);

impl JobId {
    /// `text` as an id, or `None` if it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=LENGTH_MAX).contains(&text.len());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (fits && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }

    /// A new id (UUID version 7: later ids sort after earlier ones).
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no job id"))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A seed for requests that bring none.
pub fn random_seed() -> u32 {
    // The low 62 bits of a version 7 UUID are random; no further dependency is needed for entropy.
    uuid::Uuid::now_v7().as_u128() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_plain_topic_level_is_an_id() {
        for good in ["a", "Fox_7-x", &"x".repeat(64), JobId::generate().as_str()] {
            assert!(JobId::parse(good).is_some(), "{good}");
        }
        for bad in ["", &"x".repeat(65), "a/b", "a b", "+", "#", "..", "füchse", "a\0"] {
            assert!(JobId::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn made_ids_differ() {
        assert_ne!(JobId::generate(), JobId::generate());
    }
}
