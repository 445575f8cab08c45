"""Golden token ids of CLIP's tokenizer, for tests/tokenizer.rs.

Run from the repository root:  python quantize/golden/tokenizer.py

The oracle is transformers' CLIPTokenizer, loaded from a directory with OpenAI's full vocabulary, which the
open_clip_torch package carries (MIT). Four directories are made, since packs declare their special tokens
in different ways. Writes, under tests/golden/tokenizer/:
  merges.txt.gz   the merges; vocab.json follows from them (`vocabulary` below)
  tokens.json     header, the directories' configurations, and the ids of every string
"""

import gzip
import json
import pathlib
import platform
import tempfile

import open_clip
import tokenizers
import transformers
from transformers import CLIPTokenizer

OUT = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "tokenizer"
VOCABULARY_SIZE = 49408


def token(content, normalized):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}


BOS, EOS = "<|startoftext|>", "<|endoftext|>"
COMMON = {"add_prefix_space": False, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
# Keyed by what they look like: files of the tokenizer directory next to vocab.json and merges.txt.
DIRECTORIES = {
    "stable-diffusion-1": {
        "special_tokens_map.json": {
            "bos_token": token(BOS, True), "eos_token": token(EOS, True),
            "pad_token": EOS, "unk_token": token(EOS, True),
        },
        "tokenizer_config.json": COMMON | {
            "bos_token": token(BOS, True) | {"__type": "AddedToken"}, "eos_token": token(EOS, True) | {"__type": "AddedToken"},
            "pad_token": EOS, "unk_token": token(EOS, True) | {"__type": "AddedToken"},
        },
    },
    "stable-diffusion-2": {
        "special_tokens_map.json": {
            "bos_token": token(BOS, True), "eos_token": token(EOS, True),
            "pad_token": "!", "unk_token": token(EOS, True),
        },
        "tokenizer_config.json": COMMON | {"pad_token": "!"},
    },
    "added-tokens-decoder": {
        "special_tokens_map.json": {"bos_token": BOS, "eos_token": EOS, "pad_token": "!", "unk_token": EOS},
        "tokenizer_config.json": COMMON | {
            "added_tokens_decoder": {
                "0": token("!", False) | {"special": True},
                "49406": token(BOS, True) | {"special": True},
                "49407": token(EOS, False) | {"special": True},
            },
            "bos_token": BOS, "eos_token": EOS, "pad_token": "!", "unk_token": EOS,
        },
    },
    "plain-strings": {
        "special_tokens_map.json": {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "unk_token": EOS},
        "tokenizer_config.json": COMMON,
    },
    "bare": {},
}  # fmt: skip


def read_merges():
    path = pathlib.Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    # The file goes on beyond what CLIP was trained with.
    return lines[1 : VOCABULARY_SIZE - 2 * 256 - 2 + 1]


def byte_characters():
    """GPT-2's printable stand-in for every byte, in vocabulary order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(len(rest))]


def vocabulary(merges):
    characters = byte_characters()
    tokens = characters + [c + "</w>" for c in characters] + [m.replace(" ", "") for m in merges] + [BOS, EOS]
    assert len(tokens) == VOCABULARY_SIZE
    return {t: i for i, t in enumerate(tokens)}


def strings():
    """Hostile and ordinary prompts; [text, n] stands for text * n."""
    yield from [
        "", " ", "\n", "a", "A", "a cat on a blue background", "A photo of an astronaut riding a horse on mars",
        "a fox next to a crown on a pink background", "masterpiece, best quality, 1girl, (blue eyes:1.2), [rain|snow]",
        "portrait of Zoë by Élise Müller, 8k, f/1.8, ISO-100", "<lora:foo:0.8>, {cat|dog} on red", "cat:1.5 dog::2",
        "it's you're we'll I'm they've he'd don't IT'S YOU'RE", "'s't're've'm'll'd", "''s ' s 's", "rock'n'roll o'clock",
        "it’s you’re ‘quoted’ “double”", "1234567890", "3.14159 2,000,000 1e-5 0x1F", "a1b2c3", "2024-06-11T12:34:56Z",
        "½ ² ³ ① Ⅳ ٣ ४ ๕ 〇 五", "!!!", "?!?!...,,,;;;", "!", "! !", "wow! nice!!", "a!b!c", "hello, world!", "-----", "====>",
        "#hashtag @mention $100 50% C++ C# a&b a*b", "/usr/bin:~/.local", "http://example.com/?q=a%20b&c=d#e", "a_b__c___d",
        "\\n \\t \\0 \\\\", "\"double\" `backtick` ´acute´", "(nested (brackets [of {many} kinds]))", "<|startoftext|>",
        "<|endoftext|>", "a <|endoftext|> b", "a<|endoftext|>b", "<|startoftext|><|startoftext|>x", "<|STARTOFTEXT|> <|EndOfText|>",
        "< |endoftext| >", "<|endoftext|", "<|endoftext|>!", "<|end\u200boftext|>", "<|endoftext|>\n<|endoftext|>", "</w>", "a</w> b</w>",
        "<s></s><pad><unk><mask>", "[CLS] [SEP] [PAD]", "\u0120the", "Ġthe cat", "ĠĊĉ",
    ]  # fmt: skip
    yield from [
        "  leading", "trailing  ", "two  spaces   three", "tab\tnew\nline\r\nreturn\rvt\x0bff\x0c", "\u00a0no\u00a0break",
        "en\u2002em\u2003thin\u2009hair\u200aideographic\u3000mongolian\u180eogham\u1680", "line\u2028para\u2029sep\u0085nel",
        "zero\u200bwidth\u200cnon\u200djoiner\ufeffbom", "word\u2060joiner soft\u00adhyphen", "\ufeffstart with bom",
        "\u200b\u200b\u200b", "\x1c\x1d\x1e\x1f", "a\x00b", "\x00", "\x01\x02\x03\x07\x08\x1b[31mred\x1b[0m\x7f", "\x80\x81\x9f",
        "\ufffd\ufffe\uffff", "\U0010ffff\U000f0000", "\ue000 private", "\U000e0001\U000e0061 tags",
    ]
    yield from [
        "e\u0301 é", "Å \u212b A\u030a", "ﬁ ﬂ ﬃ", "n\u0303 ñ", "o\u0308\u0304 ȫ", "\u1e9b\u0323", "\u0344 \u0958", "q\u0307\u0323 q\u0323\u0307",
        "Z\u0351\u036b\u0343a\u0363\u0360l\u0321g\u0337o\u0308", "a" + "\u0301" * 40, "\u0301alone", "한국어 조선말", "\u1112\u1161\u11ab\u1100\u116e\u11a8",
        "İstanbul ıI iİ", "ΣΊΣΥΦΟΣ Σ ς", "Straße STRASSE ẞ", "ǅ ǆ Ǆ", "Ⓐ ⓐ", "ＦＵＬＬ ｗｉｄｔｈ ｶﾅ", "𝔉𝔯𝔞𝔨𝔱𝔲𝔯 𝕋𝕨𝕠 𝟜", "𐐀𐐨 𞤀𞤢", "Ꭰ ꭰ Ა ა",
    ]  # fmt: skip
    yield from [
        "😀", "😀😀😀", "a 🐱 on a 🔵 background", "👩‍👩‍👧‍👦", "👍🏽 👍", "🏳️‍🌈 🏴‍☠️", "🇩🇪🇫🇷", "1️⃣ #️⃣", "❤ ❤️ ♥︎", "🫠🫨🪿", "☃ ☂ ☀", "🧑🏿‍🚀🚀",
        "مرحبا بالعالم", "שלום עולם", "mixed العربية and עברית text", "\u202eoverride\u202c \u2066isolate\u2069", "\u200frtl\u200e", "آأإ ﷺ ﻻ",
        "سلام ۱۲۳", "नमस्ते दुनिया", "ক্ষ", "தமிழ்", "ไทย ภาษา กำ", "ភាសាខ្មែរ", "မြန်မာ", "ພາສາລາວ", "བོད་སྐད", "ქართული", "Հայերեն", "አማርኛ",
        "你好，世界", "日本語テキスト カタカナ", "漢字かな交じり文。", "𠀀𪛖", "Привет, мир! ЁЖ", "Ελληνικά", "Tiếng Việt có dấu", "Íslenska þ ð", "ᚠᚢᚦ ᚱᚢᚾ",
        "ᐃᓄᒃᑎᑐᑦ", "ꦗꦮ", "𒀀𒁀", "𓀀𓂀", "∀x∈ℝ: ⌈x⌉ ≠ ∞ ∑∫√", "←↑→↓⇒⟶", "♔♕♖ ♪♫", "█▓▒░ ┌─┐", "€£¥₹₿ ¢", "°C ℃ µm Ω Å", "§ ¶ † ‡ • …", "– — ― ‐ ‑",
        "x̂ = ½·(a⃗ + b⃗)", "№ ™ ® © ℠", "⠓⠑⠇⠇⠕", "🄰🅰 🈁 ㊙", "\u0b95\u0bcd\u0bb7", "\u2800\u3164\u115f blank letters",
    ]  # fmt: skip
    yield from ["supercalifragilisticexpialidocious", "Donaudampfschifffahrtsgesellschaftskapitän", "pneumonoultramicroscopicsilicovolcanoconiosis"]
    # Around the 75 tokens that fit, by count.
    for n in (70, 73, 74, 75, 76, 77, 78, 150, 151):
        yield ["cat ", n]
        yield ["1", n]
        yield ["!?", n]
        yield ["😀", n]
    yield ["a", 20_000]
    yield ["x y ", 20_000]
    yield ["!", 20_000]
    yield [" ", 20_000]
    yield ["<|endoftext|>", 2_000]
    yield ["é", 20_000]
    yield ["word", 250_000]
    # One string for every block of the first plane, and some beyond, upper and lower case alike.
    for block in range(0x00A0, 0xD600, 0x0280):
        yield "".join(chr(block + 16 * i) for i in range(20)) + " x" + chr(block)
    for block in range(0x10000, 0x1FC00, 0x0480):
        yield "".join(chr(block + 37 * i) for i in range(16))
    # Every ASCII pair class around a letter: contractions, digits and punctuation runs.
    for mark in "'\"`.,:;-_/\\|!?@#$%^&*+=~()[]{}<>":
        yield f"a{mark}b {mark}c d{mark} {mark}{mark} 1{mark}2 '{mark}s"


def encode(tokenizer, text):
    """The window of 77 ids, less its padding, and how many tokens did not fit."""
    window = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    whole = tokenizer(text, truncation=False).input_ids
    assert len(window) == 77 and window[: min(len(whole), 76)] == whole[:76]
    padding = set(window[min(len(whole), 77) :])
    assert padding <= {tokenizer.pad_token_id}
    return window[: len(whole)], max(0, len(whole) - 77)


def make_directory(root, name, files, merges):
    directory = pathlib.Path(root) / name
    directory.mkdir()
    (directory / "vocab.json").write_text(json.dumps(vocabulary(merges)), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    for file, content in files.items():
        (directory / file).write_text(json.dumps(content))
    return directory


def main():
    transformers.logging.set_verbosity_error()
    merges = read_merges()
    OUT.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(("\n".join(merges) + "\n").encode(), compresslevel=9, mtime=0)
    (OUT / "merges.txt.gz").write_bytes(packed)
    with tempfile.TemporaryDirectory() as root:
        oracles = {
            name: CLIPTokenizer.from_pretrained(make_directory(root, name, files, merges))
            for name, files in DIRECTORIES.items()
        }
    rows = []
    for entry in strings():
        text = entry if isinstance(entry, str) else entry[0] * entry[1]
        first, *others = [(name, *encode(oracle, text)) for name, oracle in oracles.items()]
        row = {"text": entry, "ids": first[1], "dropped": first[2]}
        different = {name: {"ids": ids, "dropped": dropped} for name, ids, dropped in others if (ids, dropped) != first[1:]}
        rows.append(row | ({"differs": different} if different else {}))
    golden = {
        "header": {
            "script": "quantize/golden/tokenizer.py",
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "open_clip_torch": open_clip.__version__,
            "machine": platform.machine(),
            "pad": {name: oracle.pad_token_id for name, oracle in oracles.items()},
        },
        "directories": DIRECTORIES,
    }
    head = json.dumps(golden, separators=(",", ":"))[:-1]
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (OUT / "tokens.json").write_text(f'{head},\n"rows":[\n{body}\n]}}\n')
    differing = {name: sum(name in row.get("differs", {}) for row in rows) for name in oracles}
    print(f"{len(rows)} strings, {len(packed)} bytes of merges, {(OUT / 'tokens.json').stat().st_size} bytes of ids")
    print(f"differ from the first directory: {differing}")


if __name__ == "__main__":
    main()
