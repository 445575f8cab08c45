"""The pack's small world: which nouns and colours it knows, and how people may say them.

Each object is one glyph of Noto Color Emoji. The first word of an entry is the usual one; the
others are accepted as synonyms and appear more rarely in training captions.
"""

# words -> Unicode code point of the glyph
OBJECTS: dict[tuple[str, ...], int] = {
    ("cat", "kitten"): 0x1F431,
    ("dog", "puppy"): 0x1F436,
    ("fox",): 0x1F98A,
    ("panda",): 0x1F43C,
    ("lion",): 0x1F981,
    ("frog",): 0x1F438,
    ("pig",): 0x1F437,
    ("owl",): 0x1F989,
    ("penguin",): 0x1F427,
    ("whale",): 0x1F433,
    ("octopus",): 0x1F419,
    ("butterfly",): 0x1F98B,
    ("bee",): 0x1F41D,
    ("turtle",): 0x1F422,
    ("fish",): 0x1F420,
    ("snail",): 0x1F40C,
    ("apple",): 0x1F34E,
    ("banana",): 0x1F34C,
    ("cherry", "cherries"): 0x1F352,
    ("strawberry",): 0x1F353,
    ("pizza",): 0x1F355,
    ("burger", "hamburger"): 0x1F354,
    ("cake",): 0x1F382,
    ("donut", "doughnut"): 0x1F369,
    ("avocado",): 0x1F951,
    ("mushroom",): 0x1F344,
    ("corn",): 0x1F33D,
    ("carrot",): 0x1F955,
    ("lemon",): 0x1F34B,
    ("grapes",): 0x1F347,
    ("rocket",): 0x1F680,
    ("car",): 0x1F697,
    ("bus",): 0x1F68C,
    ("bicycle", "bike"): 0x1F6B2,
    ("sailboat", "boat"): 0x26F5,
    ("airplane", "plane"): 0x2708,
    ("train",): 0x1F682,
    ("house",): 0x1F3E0,
    ("castle",): 0x1F3F0,
    ("tree",): 0x1F333,
    ("cactus",): 0x1F335,
    ("flower",): 0x1F33C,
    ("rose",): 0x1F339,
    ("tulip",): 0x1F337,
    ("sun",): 0x1F31E,
    ("moon",): 0x1F319,
    ("star",): 0x2B50,
    ("cloud",): 0x2601,
    ("rainbow",): 0x1F308,
    ("snowman",): 0x26C4,
    ("umbrella",): 0x2614,
    ("fire", "flame"): 0x1F525,
    ("heart",): 0x2764,
    ("ghost",): 0x1F47B,
    ("robot",): 0x1F916,
    ("alien",): 0x1F47D,
    ("crown",): 0x1F451,
    ("gift", "present"): 0x1F381,
    ("balloon",): 0x1F388,
    ("guitar",): 0x1F3B8,
    ("camera",): 0x1F4F7,
    ("book",): 0x1F4D5,
    ("key",): 0x1F511,
    ("clock",): 0x23F0,
}

# word -> sRGB of the plain background
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49),
    "orange": (240, 140, 40),
    "yellow": (250, 215, 70),
    "green": (60, 160, 80),
    "teal": (30, 150, 150),
    "blue": (50, 100, 215),
    "purple": (125, 70, 180),
    "pink": (250, 160, 190),
    "brown": (125, 85, 55),
    "white": (250, 250, 250),
    "gray": (135, 138, 142),
    "black": (16, 16, 20),
}
COLOUR_SYNONYMS: dict[str, tuple[str, ...]] = {"gray": ("grey",)}

# Nouns that take no article of their own ("corn", "a corn" both occur; plural ones never take "a").
PLURAL = {"grapes", "cherries"}

# How the places of two objects are said. {a} lies on the first side of the pair.
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
    "beside": ("next to", "beside", "and"),
}

ONE_OBJECT = (
    "{a} on a {c} background",
    "{a} on a {c} background",
    "{a} on a {c} background",
    "{A} on {c}",
    "{A}, {c} background",
    "a {c} background with {a}",
    "{a} in front of a {c} background",
    "a picture of {a} on a {c} background",
)
ONE_OBJECT_NO_COLOUR = ("{A}", "{a}", "a picture of {a}")
TWO_OBJECTS = (
    "{a} {rel} {b} on a {c} background",
    "{a} {rel} {b} on a {c} background",
    "{a} {rel} {b} on a {c} background",
    "{A} {rel} {B} on {c}",
    "{A} {rel} {B}, {c} background",
    "a {c} background with {a} {rel} {b}",
)
TWO_OBJECTS_NO_COLOUR = ("{a} {rel} {b}", "{A} {rel} {B}")


def with_article(noun: str) -> str:
    """'owl' -> 'an owl', 'grapes' -> 'grapes'."""
    if noun in PLURAL:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def every_word() -> list[str]:
    """Each word a caption can hold, for the tokenizer's merges."""
    words: set[str] = set()
    for names in OBJECTS:
        words.update(names)
    words.update(COLOURS)
    for names in COLOUR_SYNONYMS.values():
        words.update(names)
    for table in (ONE_OBJECT, ONE_OBJECT_NO_COLOUR, TWO_OBJECTS, TWO_OBJECTS_NO_COLOUR):
        for line in table:
            words.update(w for w in line.replace(",", "").split() if "{" not in w)
    for names in RELATIONS.values():
        for name in names:
            words.update(name.split())
    return sorted(words | {"a", "an"})
