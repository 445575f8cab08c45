//! `{a|b|c}` in a prompt: one of them, chosen by the request's seed, so the same request says the same thing.

use super::syntax::SyntaxError;

/// Deeper nesting than anybody writes by hand; bounds the recursion.
const DEPTH_MAX: usize = 32;

/// `prompt` with every `{a|b}` replaced by one of its alternatives, nested ones too. `\{`, `\|` and `\}` stand for the
/// characters themselves; every other backslash is left as it is.
///
/// # Errors
/// A brace without its partner, or nesting deeper than 32.
pub fn choose(prompt: &str, seed: u32) -> Result<String, SyntaxError> {
    let mut reader = Reader { rest: prompt.chars().peekable(), at: 0, random: u64::from(seed) };
    let mut chosen = reader.branches(0)?;
    match reader.rest.peek() {
        None => Ok(chosen.swap_remove(0)),
        Some(_) => Err(SyntaxError::new(reader.at, "a } without its {; write \\} for the character itself")),
    }
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    /// Characters read.
    at: usize,
    random: u64,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.rest.next()
    }

    /// The texts between the bars up to the closing brace or the end, which stays unread. Outside of braces a bar is
    /// a character like any other.
    fn branches(&mut self, depth: usize) -> Result<Vec<String>, SyntaxError> {
        let mut texts = vec![String::new()];
        while let Some(&next) = self.rest.peek() {
            let text = texts.last_mut().expect("there is always one");
            match next {
                '}' => break,
                '|' if depth > 0 => texts.push(String::new()),
                '{' => {
                    let opened = self.at;
                    self.next();
                    if depth == DEPTH_MAX {
                        return Err(SyntaxError::new(opened, "alternatives are nested too deeply"));
                    }
                    let mut inner = self.branches(depth + 1)?;
                    if self.rest.peek() != Some(&'}') {
                        let message = "a { without its }; write \\{ for the character itself";
                        return Err(SyntaxError::new(opened, message));
                    }
                    let which = self.draw(inner.len());
                    text.push_str(&inner.swap_remove(which));
                }
                '\\' => {
                    self.next();
                    match self.rest.peek() {
                        Some('{' | '|' | '}') => text.extend(self.rest.peek().copied()),
                        _ => {
                            text.push('\\');
                            continue;
                        }
                    }
                }
                other => text.push(other),
            }
            self.next();
        }
        Ok(texts)
    }

    /// 0 to `count - 1`: SplitMix64 (Steele et al. 2014), reduced by multiplication (Lemire 2019).
    fn draw(&mut self, count: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * count as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alternative_is_drawn_about_equally_often_and_the_same_for_a_seed() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..3000 {
            let text = choose("a {red|green|} {cat|{big|small} dog}", seed).expect("valid");
            assert_eq!(text, choose("a {red|green|} {cat|{big|small} dog}", seed).expect("valid"));
            *counts.entry(text).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 9, "{counts:?}");
        let cats = ["a red cat", "a green cat", "a  cat"].map(|text| counts[text]);
        assert!(cats.iter().all(|count| (430..570).contains(count)), "{cats:?}");
    }

    #[test]
    fn plain_prompts_and_escaped_characters_stay() {
        for prompt in ["a cat", "a|b", "", r"\(not this\)", "tail\\"] {
            assert_eq!(choose(prompt, 1).as_deref(), Ok(prompt));
        }
        assert_eq!(choose(r"\{a\|b\}", 1).as_deref(), Ok("{a|b}"));
        assert_eq!(choose("{only}", 1).as_deref(), Ok("only"));
    }

    #[test]
    fn a_brace_without_its_partner_is_refused_where_it_stands() {
        assert_eq!(choose("ab{c", 0).map_err(|error| error.at), Err(2));
        assert_eq!(choose("ab}c", 0).map_err(|error| error.at), Err(2));
        assert!(choose(&"{".repeat(100_000), 0).is_err());
    }
}
