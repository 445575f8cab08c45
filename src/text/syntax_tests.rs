//! What the syntax means, on the examples that Stable Diffusion web UI documents with `parse_prompt_attention`.

use super::*;

fn texts(prompt: &str) -> Vec<(String, f32)> {
    parse(prompt)
        .expect("valid")
        .into_iter()
        .map(|piece| match piece {
            Piece::Text { text, weight } => (text, (weight * 1e4).round() / 1e4),
            Piece::Break => ("BREAK".to_owned(), -1.0),
        })
        .collect()
}

fn owned(pieces: &[(&str, f32)]) -> Vec<(String, f32)> {
    pieces.iter().map(|(text, weight)| ((*text).to_owned(), *weight)).collect()
}

#[test]
fn the_documented_examples_mean_what_they_are_said_to() {
    let cases: [(&str, &[(&str, f32)]); 9] = [
        ("normal text", &[("normal text", 1.0)]),
        ("an (important) word", &[("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        (r"\(literal\]", &[("(literal]", 1.0)]),
        ("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]),
        ("((twice)) [less]", &[("twice", 1.21), (" ", 1.0), ("less", 0.9091)]),
        (
            // The web UI's own example closes the outermost bracket at the end by itself.
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).)",
            &[
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        ("red BREAK blue", &[("red", 1.0), ("BREAK", -1.0), ("blue", 1.0)]),
        ("(red BREAK blue:2)", &[("red", 2.0), ("BREAK", -1.0), ("blue", 2.0)]),
        ("BREAKFAST OUTBREAK (note: this)", &[("BREAKFAST OUTBREAK ", 1.0), ("note: this", 1.1)]),
    ];
    for (prompt, wanted) in cases {
        assert_eq!(texts(prompt), owned(wanted), "{prompt}");
    }
}

#[test]
fn nothing_to_weigh_is_no_piece() {
    assert_eq!(texts(""), []);
    assert_eq!(texts("()[](:1.5)"), []);
    assert_eq!(texts("a\\"), owned(&[("a\\", 1.0)]));
}

#[test]
fn brackets_without_partners_and_wild_weights_are_refused_where_they_stand() {
    let cases = [
        ("a (b", 2, "never closed"),
        ("a b)", 3, "without its ("),
        ("a [b)", 4, "without its ("),
        ("(a]", 2, "without its ["),
        ("x (a:1e9)", 2, "0 to 10"),
        ("(a:-1)", 0, "0 to 10"),
        ("(a:nan)", 0, "0 to 10"),
    ];
    for (prompt, at, part) in cases {
        let error = parse(prompt).expect_err(prompt);
        assert_eq!(error.at, at, "{prompt}: {error}");
        assert!(error.message.contains(part), "{prompt}: {error}");
    }
    assert!(parse(&"(".repeat(100_000)).is_err());
    assert!(parse(&format!("{}a{}", "(".repeat(40), ")".repeat(40))).is_err(), "1.1^40 is above the bound");
}
