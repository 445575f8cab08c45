//! What was looked at and what came out, a line each.

use std::fmt::Display;

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Fine.
    Ok,
    /// It works, and could work better or will not for long.
    Warn,
    /// It does not work.
    Fail,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at, a stable word for programs.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What is there.
    pub(super) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Display) -> Self {
        Self { check, level: Level::Ok, message: message.to_string(), advice: None }
    }

    pub(super) fn warn(check: &'static str, message: impl Display, advice: impl Display) -> Self {
        Self { level: Level::Warn, advice: Some(advice.to_string()), ..Self::ok(check, message) }
    }

    pub(super) fn fail(check: &'static str, message: impl Display, advice: impl Display) -> Self {
        Self { level: Level::Fail, advice: Some(advice.to_string()), ..Self::ok(check, message) }
    }
}

/// For people: the level, what was looked at, what is there; below it what to do.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, level, message, advice } in findings {
        let level = match level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        text += &format!("{level}  {check:<12} {message}\n");
        if let Some(advice) = advice {
            text += &format!("      {:<12} -> {advice}\n", "");
        }
    }
    text
}
