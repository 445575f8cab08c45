//! Rust text taken apart just far enough for the rules: code without comments and strings, comments without
//! code, what comes before the inline tests.

/// What a piece of the text is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Text,
    Comment,
}

/// The code alone, line for line: comments, and what stands in quotes, become spaces.
pub(crate) fn code(text: &str) -> String {
    keep(text, Kind::Code)
}

/// The comments alone, line for line.
pub(crate) fn comments(text: &str) -> String {
    keep(text, Kind::Comment)
}

/// Everything before the inline test module, which by custom ends the file.
pub(crate) fn before_tests(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].to_owned()
}

fn keep(text: &str, kind: Kind) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (this, length) = next_piece(rest);
        let piece = &rest[..length];
        if this == kind {
            out.push_str(piece);
        } else {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = &rest[length..];
    }
    out
}

/// The kind and the length in bytes of the piece that `text` starts with.
fn next_piece(text: &str) -> (Kind, usize) {
    let up_to =
        |end: &str, skip: usize| text[skip..].find(end).map_or(text.len(), |at| skip + at + end.len());
    if text.starts_with("//") {
        return (Kind::Comment, up_to("\n", 0));
    }
    if text.starts_with("/*") {
        return (Kind::Comment, up_to("*/", 2));
    }
    let hashes = text.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
    if let Some(hashes) = hashes
        && text[1 + hashes..].starts_with('"')
    {
        return (Kind::Text, up_to(&format!("\"{}", "#".repeat(hashes)), hashes + 2));
    }
    match text.chars().next() {
        Some('"') => (Kind::Text, quoted(text)),
        Some('\'') => character(text),
        // A word in one go, so that the r of `for"` is not taken for a raw string.
        Some(c) if is_word(c) => (Kind::Code, text.find(|c| !is_word(c)).unwrap_or(text.len())),
        first => (Kind::Code, first.map_or(0, char::len_utf8)),
    }
}

/// Length of the string literal that `text` starts with, `\"` inside it included.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal, or the quote of a lifetime.
fn character(text: &str) -> (Kind, usize) {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            let close = text[after..].find('\'').map_or(text.len(), |end| after + end + 1);
            (Kind::Text, close)
        }
        (Some(_), Some((at, '\''))) => (Kind::Text, at + 1),
        _ => (Kind::Code, 1),
    }
}

/// Whether `c` can stand in an identifier.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn code_comments_and_quotes_are_told_apart() {
    let text = "let a = 'x'; // unsafe\nlet b = \"un\\\"safe\"; /* tract */ c(r#\"a\"b\"#, '\\'', 'u) d\n";
    let code = code(text);
    assert_eq!(code.split_whitespace().collect::<String>(), "leta=;letb=;c(,,'u)d");
    assert_eq!(code.lines().count(), text.lines().count());
    assert_eq!(comments(text).split_whitespace().collect::<Vec<_>>(), ["//", "unsafe", "/*", "tract", "*/"]);
}

#[test]
fn inline_tests_are_cut_off() {
    let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(before_tests(text), "fn a() {}\n");
    assert_eq!(before_tests("fn a() {}\n"), "fn a() {}\n");
}

/// Names of the functions that a file of Rust or Python defines.
pub(crate) fn functions(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let rest = line.trim_start();
        let rest =
            ["fn ", "async fn ", "def ", "async def "].iter().find_map(|word| rest.strip_prefix(word))?;
        Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
    };
    text.lines().filter_map(name).collect()
}
