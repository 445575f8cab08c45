//! Words that a device's owner does not want asked for.

/// The first of `words` that stands in `prompt`, whatever its case: at the beginnings and ends of words only, so that a
/// blocked `ass` leaves `glass` alone; a phrase counts with any blanks between its words.
pub fn blocked_word<'a>(prompt: &str, words: &'a [String]) -> Option<&'a str> {
    let prompt = words_of(prompt);
    words.iter().map(String::as_str).find(|blocked| {
        let blocked = words_of(blocked);
        !blocked.is_empty() && prompt.windows(blocked.len()).any(|window| window == blocked)
    })
}

fn words_of(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_and_phrases_are_found_and_parts_of_words_are_not() {
        let words: Vec<String> = ["gun", "Red Wine", "Ärger", "!"].map(str::to_owned).into();
        let found = |prompt| blocked_word(prompt, &words);
        for (prompt, word) in [
            ("a GUN on red", "gun"),
            ("(gun:1.2)", "gun"),
            ("a-gun", "gun"),
            ("red\n wine", "Red Wine"),
            ("viel ÄRGER", "Ärger"),
        ] {
            assert_eq!(found(prompt), Some(word), "{prompt}");
        }
        for prompt in ["burgundy gunpowder", "red and wine", "wine red", "!", ""] {
            assert_eq!(found(prompt), None, "{prompt}");
        }
    }
}
