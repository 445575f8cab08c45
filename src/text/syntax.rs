//! The prompt syntax people know from Stable Diffusion web UI: `(word)`, `(word:1.2)`, `[word]`, `BREAK`.
//!
//! As its `parse_prompt_attention` has it: round brackets multiply the weight of what they hold by 1.1 or by the
//! number given, square ones divide it by 1.1, and `BREAK` begins a new window of tokens. `\(`, `\)`, `\[`, `\]` and
//! `\\` stand for the characters themselves. Where the web UI guesses (a bracket that is never closed), we refuse.

use std::fmt;

/// Weights of words, the product of all brackets around them, lie between 0 and this.
const WEIGHT_MAX: f32 = 10.0;
/// What one pair of round brackets multiplies by.
const EMPHASIS: f32 = 1.1;
/// The word that begins a new window.
const BREAK: &str = "BREAK";

/// A prompt that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Characters before the place.
    pub at: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl SyntaxError {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at + 1, self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Words, and how much they count; 1 is the usual.
    Text {
        /// As written, less the brackets and backslashes of the syntax.
        text: String,
        /// From 0 to 10.
        weight: f32,
    },
    /// What follows starts in a new window.
    Break,
}

/// An opened bracket: which kind, where it stands, and the first piece inside it.
struct Open {
    bracket: char,
    at: usize,
    first: usize,
}

/// Reads `prompt`; neighbours of equal weight are joined, so a prompt without syntax is one piece.
///
/// # Errors
/// A bracket without its partner, or a weight outside of 0 to 10.
pub fn parse(prompt: &str) -> Result<Vec<Piece>, SyntaxError> {
    let characters: Vec<char> = prompt.chars().collect();
    let mut pieces: Vec<(String, f32)> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let here = characters[at];
        match here {
            '\\' if matches!(characters.get(at + 1), Some('(' | ')' | '[' | ']' | '\\')) => {
                at += 1;
                pieces.push((characters[at].to_string(), 1.0));
            }
            '(' | '[' => open.push(Open { bracket: here, at, first: pieces.len() }),
            ')' | ']' => {
                let partner = if here == ')' { '(' } else { '[' };
                let Some(opened) = open.pop_if(|opened| opened.bracket == partner) else {
                    let message =
                        format!("a {here} without its {partner}; write \\{here} for the character itself");
                    return Err(SyntaxError::new(at, message));
                };
                let factor = match here {
                    ')' => take_weight(&mut pieces, opened.first).unwrap_or(EMPHASIS),
                    _ => 1.0 / EMPHASIS,
                };
                for (_, weight) in &mut pieces[opened.first..] {
                    *weight *= factor;
                    if !(0.0..=WEIGHT_MAX).contains(weight) {
                        let message =
                            format!("the weight of these words is {weight}, 0 to {WEIGHT_MAX} are allowed");
                        return Err(SyntaxError::new(opened.at, message));
                    }
                }
            }
            _ => {
                let run = characters[at..]
                    .iter()
                    .take_while(|c| !matches!(c, '\\' | '(' | ')' | '[' | ']'))
                    .count()
                    .max(1);
                pieces.push((characters[at..at + run].iter().collect(), 1.0));
                at += run - 1;
            }
        }
        at += 1;
    }
    if let Some(opened) = open.first() {
        let Open { bracket, at, .. } = *opened;
        let message = format!("a {bracket} that is never closed; write \\{bracket} for the character itself");
        return Err(SyntaxError::new(at, message));
    }
    Ok(split_at_breaks(join_neighbours(pieces)))
}

/// Takes `:1.2` off the end of the last piece, if it is inside the brackets and ends like that.
fn take_weight(pieces: &mut Vec<(String, f32)>, first: usize) -> Option<f32> {
    if pieces.len() <= first {
        return None;
    }
    let (text, _) = pieces.last_mut()?;
    let (words, number) = text.rsplit_once(':')?;
    let weight = number.trim().parse::<f32>().ok()?;
    *text = words.to_owned();
    if text.is_empty() {
        pieces.pop();
    }
    Some(weight)
}

fn join_neighbours(pieces: Vec<(String, f32)>) -> Vec<(String, f32)> {
    let mut joined: Vec<(String, f32)> = Vec::new();
    for (text, weight) in pieces {
        match joined.last_mut() {
            Some((before, same)) if *same == weight => before.push_str(&text),
            _ => joined.push((text, weight)),
        }
    }
    joined
}

/// `BREAK` as a word of its own, with the white space around it, becomes [`Piece::Break`].
fn split_at_breaks(pieces: Vec<(String, f32)>) -> Vec<Piece> {
    let mut split = Vec::new();
    for (text, weight) in pieces {
        let mut rest = text.as_str();
        while let Some(at) = find_break(rest) {
            push_text(&mut split, rest[..at].trim_end(), weight);
            split.push(Piece::Break);
            rest = rest[at + BREAK.len()..].trim_start();
        }
        push_text(&mut split, rest, weight);
    }
    split
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, weight: f32) {
    if !text.is_empty() {
        pieces.push(Piece::Text { text: text.to_owned(), weight });
    }
}

/// Where `BREAK` stands as a whole word.
fn find_break(text: &str) -> Option<usize> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(BREAK).map(|(at, _)| at).find(|&at| {
        !text[..at].chars().next_back().is_some_and(part_of_word)
            && !text[at + BREAK.len()..].chars().next().is_some_and(part_of_word)
    })
}

#[cfg(test)]
#[path = "syntax_tests.rs"]
mod tests;
