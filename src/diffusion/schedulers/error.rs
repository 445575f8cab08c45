//! What is wrong with a scheduler name, a pack's scheduler_config.json or a request's `scheduler_options`.

/// An option that cannot be honoured: which one, what it was, what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message} (got {value})")]
pub struct SchedulerError {
    /// The option as diffusers spells it, or `scheduler` or `steps`.
    pub field: String,
    /// The value met, as JSON, shortened to at most 80 characters.
    pub value: String,
    /// What is allowed or what to do.
    pub message: String,
}

impl SchedulerError {
    pub(super) fn new(field: &str, value: impl ToString, message: impl Into<String>) -> Self {
        Self { field: shorten(field), value: shorten(&value.to_string()), message: message.into() }
    }
}

/// At most 80 characters and none of them a control character, so that an error cannot flood a log.
fn shorten(text: &str) -> String {
    const KEPT: usize = 77;
    let printable = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let head: String = printable.take(KEPT + 1).collect();
    match head.char_indices().nth(KEPT) {
        Some((end, _)) => head[..end].to_owned() + "...",
        None => head,
    }
}

/// The candidate closest to `word`, for "did you mean"; `None` when nothing is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a name into something three times its length; this bounds the work below.
    const LONGEST: usize = 64;
    if word.chars().count() > LONGEST {
        return None;
    }
    candidates
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .min()
        .filter(|&(distance, candidate)| distance <= 1 + candidate.len() / 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein: insertions, deletions and replacements of one character.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_and_control_characters_are_replaced() {
        let error = SchedulerError::new("eta", "x".repeat(500) + "\n", "no");
        assert_eq!(error.value.chars().count(), 80);
        assert!(error.value.ends_with("..."));
        assert_eq!(SchedulerError::new("eta", "a\nb", "no").value, "a\u{fffd}b");
    }

    #[test]
    fn the_nearest_name_is_found_and_nonsense_has_none() {
        let names = ["solver_order", "solver_type", "eta"];
        assert_eq!(nearest("solver_ordr", names.into_iter()), Some("solver_order"));
        assert_eq!(nearest("zzzzzzzzzzzz", names.into_iter()), None);
        assert_eq!(nearest(&"s".repeat(1_000_000), names.into_iter()), None);
    }
}
