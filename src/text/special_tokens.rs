//! Which tokens are special, as `tokenizer_config.json` and `special_tokens_map.json` say, read as transformers does.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::clip_tokenizer::{TokenizerError, read_object};

/// The roles, in the order in which transformers adds them: where two describe one token, the later
/// description counts.
const ROLES: [(&str, &str); 4] = [
    ("bos_token", "<|startoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
];

/// Special tokens and the length of a window.
pub(super) struct SpecialTokens {
    /// By role, in the order of [`ROLES`].
    roles: [String; 4],
    added: Vec<AddedToken>,
    window_length: usize,
}

impl SpecialTokens {
    pub(super) fn read(directory: &Path) -> Result<Self, TokenizerError> {
        let optional = |name: &str| {
            let path = directory.join(name);
            if path.exists() { read_object(&path) } else { Ok(Map::new()) }
        };
        let config = optional("tokenizer_config.json")?;
        let map = optional("special_tokens_map.json")?;
        let config_path = directory.join("tokenizer_config.json");
        let mut added =
            added_tokens_decoder(&config).map_err(|message| TokenizerError::new(&config_path, message))?;
        let declared: Vec<String> = added.iter().map(|token| token.content.clone()).collect();
        // A newer tokenizer_config.json says all; before that, special_tokens_map.json went first.
        let sources = if declared.is_empty() { [&map, &config] } else { [&config, &map] };
        let mut roles: [String; 4] = Default::default();
        for ((role, default), content) in ROLES.into_iter().zip(&mut roles) {
            let value = sources.iter().find_map(|source| source.get(role).filter(|value| !value.is_null()));
            let token = match value {
                None => AddedToken::from(default, true),
                Some(value) => added_token(value).ok_or_else(|| {
                    TokenizerError::new(
                        &config_path,
                        format!("or special_tokens_map.json: {role} is no token: {value}"),
                    )
                })?,
            };
            content.clone_from(&token.content);
            if !declared.contains(&token.content) {
                added.push(token);
            }
        }
        Ok(Self { roles, added, window_length: window_length(&config) })
    }

    /// Opens a window.
    pub(super) fn start(&self) -> &str {
        &self.roles[0]
    }

    /// Ends the text of a window.
    pub(super) fn end(&self) -> &str {
        &self.roles[1]
    }

    /// Stands for what the vocabulary cannot spell.
    pub(super) fn unknown(&self) -> &str {
        &self.roles[2]
    }

    /// Fills a window: end-of-text in Stable Diffusion 1, `!` in 2.
    pub(super) fn pad(&self) -> &str {
        &self.roles[3]
    }

    /// All of them, in the order in which they are added to the tokenizer.
    pub(super) fn added(&self) -> Vec<AddedToken> {
        self.added.clone()
    }

    /// Ids in a window.
    pub(super) fn window_length(&self) -> usize {
        self.window_length
    }
}

/// `model_max_length`. transformers writes 1e30 for "none": that is CLIP's 77, and so is any other
/// length that no text encoder has.
fn window_length(config: &Map<String, Value>) -> usize {
    const CLIP: usize = 77;
    const LONGEST: f64 = 1024.0;
    match config.get("model_max_length").and_then(Value::as_f64) {
        Some(length) if (3.0..=LONGEST).contains(&length) => length as usize,
        _ => CLIP,
    }
}

/// `added_tokens_decoder`, `{id: token}`, by id.
fn added_tokens_decoder(config: &Map<String, Value>) -> Result<Vec<AddedToken>, String> {
    let Some(entries) = config.get("added_tokens_decoder").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    let mut tokens = entries
        .iter()
        .map(|(id, value)| {
            let number = id.parse::<u32>().ok();
            number
                .zip(added_token(value))
                .ok_or_else(|| format!("added_tokens_decoder: no id and token: {id:?}: {value}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}

/// A token: a string, or an object with `content` and flags.
fn added_token(value: &Value) -> Option<AddedToken> {
    let content = value.as_str().or_else(|| value.get("content")?.as_str())?;
    if content.is_empty() {
        return None;
    }
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    Some(
        AddedToken::from(content, true)
            .normalized(flag("normalized"))
            .single_word(flag("single_word"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip")),
    )
}
