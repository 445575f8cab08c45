//! What is said to somebody whose request cannot be taken.

/// Something a person asked for is not allowed: which field, what it was, what would do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {message} (got {value})")]
pub struct FieldError {
    /// A stable word for programs: `invalid_value`, `unknown_field`, `too_long`, `unsupported`, ...
    pub code: &'static str,
    /// The request field, as the wire spells it.
    pub field: String,
    /// The value met, shortened to at most 80 characters.
    pub value: String,
    /// What is allowed.
    pub message: String,
}

impl FieldError {
    /// A [`FieldError`] with its value shortened for display.
    pub fn new(code: &'static str, field: &str, value: impl ToString, message: impl Into<String>) -> Self {
        Self { code, field: field.to_owned(), value: shorten(&value.to_string()), message: message.into() }
    }
}

/// At most 80 characters, control characters escaped, so that an error cannot flood a log or a terminal.
fn shorten(value: &str) -> String {
    const KEPT: usize = 77;
    let mut escaped = value.chars().flat_map(|c| {
        let plain = !c.is_control();
        plain.then_some(c).into_iter().chain((!plain).then(|| c.escape_default()).into_iter().flatten())
    });
    let head: String = escaped.by_ref().take(KEPT).collect();
    if escaped.next().is_some() { head + "..." } else { head }
}
