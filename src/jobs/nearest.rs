//! "Did you mean": the known name nearest to one that nobody knows.

/// The entry of `known` that `name` most likely means, if one is near enough to be worth saying.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (similarity(&name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// 0 to 1. A name that the other one contains (`scale` in `guidance_scale`) counts as near.
fn similarity(name: &str, candidate: &str) -> f64 {
    let contained = name.len() >= 3 && (candidate.contains(name) || name.contains(candidate));
    let edits = strsim::normalized_damerau_levenshtein(name, candidate);
    if contained { edits.max(0.6) } else { edits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_name_and_strangers_find_none() {
        let known = ["prompt", "negative_prompt", "steps", "seed", "guidance_scale"];
        let mean = |name| nearest(name, known);
        assert_eq!(mean("promt"), Some("prompt"));
        assert_eq!(mean("Steps"), Some("steps"));
        assert_eq!(mean("num_inference_steps"), Some("steps"));
        assert_eq!(mean("guidance"), Some("guidance_scale"));
        assert_eq!(mean("negative"), Some("negative_prompt"));
        assert_eq!(mean("xyzzy"), None);
        assert_eq!(mean(""), None);
    }
}
