//! Our CLIP tokenizer against transformers'. Golden files: quantize/golden/tokenizer.py.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use easeld::text::ClipTokenizer;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    header: Header,
    /// Name to the files beside vocab.json and merges.txt.
    directories: BTreeMap<String, BTreeMap<String, Value>>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Header {
    /// Padding id by directory.
    pad: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Row {
    text: Text,
    #[serde(flatten)]
    window: Window,
    /// Directories whose special tokens make a difference.
    #[serde(default)]
    differs: BTreeMap<String, Window>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Repeated(String, usize),
}

#[derive(Deserialize)]
struct Window {
    /// Without padding.
    ids: Vec<i64>,
    dropped: usize,
}

impl Text {
    fn expand(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Repeated(text, times) => text.repeat(*times),
        }
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/tokenizer/tokens.json")).unwrap()
}

fn merges() -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("golden/tokenizer/merges.txt.gz")[..])
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// CLIP's vocabulary follows from its merges: bytes, bytes that end a word, merges, two special tokens.
fn vocabulary(merges: &str) -> Map<String, Value> {
    let printable = || (33..127).chain(161..173).chain(174..256u32);
    let rest = (0..256u32).filter(|b| !printable().any(|p| p == *b)).zip(256..).map(|(_, c)| c);
    let characters: Vec<String> =
        printable().chain(rest).map(|c| char::from_u32(c).unwrap().to_string()).collect();
    let tokens = characters
        .iter()
        .cloned()
        .chain(characters.iter().map(|c| format!("{c}</w>")))
        .chain(merges.lines().map(|pair| pair.replace(' ', "")))
        .chain(["<|startoftext|>".to_owned(), "<|endoftext|>".to_owned()]);
    tokens.enumerate().map(|(id, token)| (token, json!(id))).collect()
}

fn directory(files: &BTreeMap<String, Value>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let merges = merges();
    let vocabulary = vocabulary(&merges);
    assert_eq!(vocabulary.len(), 49408);
    fs::write(directory.path().join("vocab.json"), Value::Object(vocabulary).to_string()).unwrap();
    fs::write(directory.path().join("merges.txt"), format!("#version: 0.2\n{merges}")).unwrap();
    for (name, content) in files {
        fs::write(directory.path().join(name), content.to_string()).unwrap();
    }
    directory
}

/// Rows of `golden` that `tokenizer` gets wrong under the special tokens of `name`.
fn failures(golden: &Golden, tokenizer: &ClipTokenizer, name: &str) -> Vec<String> {
    let mut failures = Vec::new();
    for row in &golden.rows {
        let wanted = row.differs.get(name).unwrap_or(&row.window);
        let text = row.text.expand();
        let ours = tokenizer.encode(&text);
        let mut ids = wanted.ids.clone();
        ids.resize(77, golden.header.pad[name]);
        if (&ours.token_ids, ours.truncated) != (&ids, wanted.dropped) {
            let head: String = text.chars().take(60).collect();
            let (dropped, cut) = (wanted.dropped, ours.truncated);
            failures
                .push(format!("{name} {head:?}: {:?} cut {cut}, not {ids:?} cut {dropped}", ours.token_ids));
        }
    }
    failures
}

#[test]
fn hostile_strings_become_the_ids_of_transformers() {
    let golden = golden();
    let mut problems = Vec::new();
    for (name, files) in &golden.directories {
        let directory = directory(files);
        let tokenizer = ClipTokenizer::from_dir(directory.path()).unwrap();
        problems.extend(failures(&golden, &tokenizer, name));
    }
    assert!(golden.rows.len() > 300 && golden.directories.len() == 5);
    assert!(problems.is_empty(), "{} strings differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn tokenizer_json_gives_the_same_ids_as_vocab_and_merges() {
    let golden = golden();
    let merges = merges();
    let pairs: Vec<&str> = merges.lines().collect();
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    // The layout that transformers 4 saved CLIP's tokenizer in, padding and truncation switched on.
    let whole = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 20, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 30}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 5,
                    "pad_type_id": 0, "pad_token": "&"},
        "added_tokens": [special(49406, "<|startoftext|>"), special(49407, "<|endoftext|>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"},
             "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}]},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 49407],
                           "cls": ["<|startoftext|>", 49406], "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": vocabulary(&merges), "merges": pairs}
    });
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tokenizer.json"), whole.to_string()).unwrap();
    let tokenizer = ClipTokenizer::from_dir(directory.path()).unwrap();
    let problems = failures(&golden, &tokenizer, "plain-strings");
    assert!(problems.is_empty(), "{} strings differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn a_megabyte_is_tokenized_in_seconds() {
    let directory = directory(&BTreeMap::new());
    let tokenizer = ClipTokenizer::from_dir(directory.path()).unwrap();
    for text in ["x".repeat(1 << 20), "<|".repeat(1 << 19), "\u{301}".repeat(1 << 19), "1 ".repeat(1 << 19)] {
        let start = Instant::now();
        let window = tokenizer.encode(&text);
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert_eq!((window.token_ids.len(), window.token_ids[76]), (77, 49407));
        assert!(window.truncated > 0);
    }
}

/// A directory with bytes for a vocabulary, and `files` written over it; an empty text removes a file.
fn small(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let vocab: Map<String, Value> = vocabulary("").into_iter().collect();
    fs::write(directory.path().join("vocab.json"), Value::Object(vocab).to_string()).unwrap();
    fs::write(directory.path().join("merges.txt"), "#version: 0.2\n").unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        if content.is_empty() { fs::remove_file(path).unwrap() } else { fs::write(path, content).unwrap() }
    }
    directory
}

/// Files written over a good directory; the file that the error names and part of its message.
type Broken = (&'static [(&'static str, &'static str)], &'static str, &'static str);

#[rustfmt::skip]
const BROKEN: &[Broken] = &[
    (&[("vocab.json", "")], "", "neither vocab.json with merges.txt nor tokenizer.json"),
    (&[("merges.txt", "")], "", "neither vocab.json with merges.txt nor tokenizer.json"),
    (&[("vocab.json", "{")], "vocab.json", "is no JSON object"),
    (&[("vocab.json", r#"{"a": -1}"#)], "vocab.json", "the id of \"a\" is -1"),
    (&[("vocab.json", r#"{"a": 0}"#)], "vocab.json", "lacks the special token \"<|startoftext|>\""),
    (&[("merges.txt", "#version: 0.2\na\n")], "merges.txt", "line 2 is no pair of tokens: \"a\""),
    (&[("merges.txt", "zz qq\n")], "merges.txt", "does not belong to the vocab.json beside it"),
    (&[("tokenizer_config.json", "[1]")], "tokenizer_config.json", "is no JSON object"),
    (&[("special_tokens_map.json", "nul")], "special_tokens_map.json", "is no JSON object"),
    (&[("special_tokens_map.json", r#"{"pad_token": 7}"#)], "tokenizer_config.json", "pad_token is no token: 7"),
    (&[("special_tokens_map.json", r#"{"pad_token": "<pad>"}"#)], "vocab.json", "special token \"<pad>\""),
    (&[("vocab.json", ""), ("tokenizer.json", "{}")], "tokenizer.json", "is no tokenizer"),
    (&[("vocab.json", ""), ("tokenizer.json", r#"{"added_tokens": [], "model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}"#)],
        "tokenizer.json", "is no BPE tokenizer"),
    (&[("vocab.json", ""), ("tokenizer.json", r#"{"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "?"}}"#)],
        "tokenizer.json", "lacks its own unk_token"),
];

#[test]
fn a_broken_directory_is_named_with_its_file() {
    let mut problems = Vec::new();
    for &(files, file, message) in BROKEN {
        let directory = small(files);
        let path = if file.is_empty() { directory.path().to_owned() } else { directory.path().join(file) };
        match ClipTokenizer::from_dir(directory.path()) {
            Ok(_) => problems.push(format!("{files:?} was taken")),
            Err(error) if error.path == path && error.message.contains(message) => {}
            Err(error) => problems.push(format!("{files:?}: {error}; wanted {file}: {message}")),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn window_length_follows_model_max_length_where_it_is_one() {
    for (length, window) in [("32", 32), ("77", 77), ("1e30", 77), ("2", 77), ("\"long\"", 77), ("null", 77)]
    {
        let config = format!(r#"{{"model_max_length": {length}}}"#);
        let directory = small(&[("tokenizer_config.json", &config)]);
        let tokenizer = ClipTokenizer::from_dir(directory.path()).unwrap();
        assert_eq!(tokenizer.window_length(), window, "{length}");
        let encoded = tokenizer.encode("abcdefgh ".repeat(40).as_str());
        assert_eq!(encoded.token_ids.len(), window);
        assert_eq!(encoded.truncated, 320 - (window - 2));
    }
}
