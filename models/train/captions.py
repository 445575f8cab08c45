"""How people may say what a scene shows: wordings, synonyms, politeness, and words that mean nothing here."""

from __future__ import annotations

import numpy as np

import vocabulary as V

# Nouns that never take "a".
PLURAL = {
    "grapes", "cherries", "blueberries", "pancakes", "fries", "french fries", "jeans", "sunglasses", "scissors",
    "thumbs up", "bread", "corn", "garlic", "popcorn", "sushi", "broccoli", "milk", "coffee", "honey", "cheese",
    "chocolate", "money", "fire", "soccer", "lightning",
}

# The places of two objects. {a} lies on the first side of the pair.
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
    "beside": ("next to", "beside", "and", "with", "near"),
}

ONE = (
    "{a} on a {c} background", "{a} on a {c} background", "{a} on a {c} background",
    "{A} on {c}", "{a} on {c}", "{A} {c}", "{c} {A}",
    "{A}, {c} background", "{a}, {c} background", "{A} on {c} background", "{A} with {c} background",
    "a {c} background with {a}", "{c} background with {A}", "{c} background, {A}",
    "{a} in front of a {c} background", "{a} against a {c} background", "{a} with a {c} background",
)
ONE_NO_COLOUR = ("{A}", "{A}", "{a}", "the {A}")
TWO = (
    "{a} {rel} {b} on a {c} background", "{a} {rel} {b} on a {c} background", "{a} {rel} {b} on a {c} background",
    "{A} {rel} {B} on {c}", "{a} {rel} {b} on {c}", "{A} {rel} {B}, {c} background", "{a} {rel} {b}, {c} background",
    "a {c} background with {a} {rel} {b}", "{c} background with {A} {rel} {B}", "{c} background, {a} {rel} {b}",
    "{a} {rel} {b} in front of a {c} background", "{a} {rel} {b} with a {c} background",
)
TWO_NO_COLOUR = ("{a} {rel} {b}", "{A} {rel} {B}")
OPENINGS = (
    "draw me", "draw", "please draw", "paint", "make", "show me", "i want", "give me", "create",
    "a picture of", "a drawing of", "an image of", "a photo of", "picture of", "an emoji of", "an icon of",
)
# Words people add that this world cannot show: they have to change nothing.
FILLERS = (
    "cute", "little", "small", "big", "happy", "beautiful", "nice", "funny", "lovely", "pretty", "simple", "sweet",
    "cool", "old", "new", "tiny", "great", "my", "single", "very", "really", "detailed", "colorful",
)
ENDINGS = ("please", "high quality", "in 4k", "thanks", "emoji style", "in cartoon style", "minimalist", "!", ".")


def with_article(noun: str) -> str:
    """'owl' -> 'an owl', 'grapes' -> 'grapes'."""
    if noun in PLURAL:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


class Captions:
    """Draws a wording for a scene from a random generator."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def _pick(self, table: tuple[str, ...]) -> str:
        return table[self.rng.integers(len(table))]

    def _noun(self, which: int) -> str:
        names = V.NAMES[which]
        return self._pick(names[1:]) if len(names) > 1 and self.rng.random() < 0.25 else names[0]

    @staticmethod
    def colour_words(colour: str) -> tuple[str, ...]:
        """The other words for a colour."""
        return V.COLOUR_SYNONYMS.get(colour, ())

    def _colour(self, colour: str) -> str:
        others = self.colour_words(colour)
        return self._pick(others) if others and self.rng.random() < 0.35 else colour

    def _described(self, noun: str) -> str:
        return f"{self._pick(FILLERS)} {noun}" if self.rng.random() < 0.06 else noun

    def _dress(self, text: str) -> str:
        """Now and then an opening, an ending, a nonsense word or capitals around the caption."""
        roll = self.rng.random(4)
        if roll[0] < 0.15:
            text = f"{self._pick(OPENINGS)} {text}"
        if roll[1] < 0.05:
            text = f"{text} {self._pick(ENDINGS)}" if roll[1] < 0.025 else f"{text}, {self._pick(ENDINGS)}"
        if roll[2] < 0.04:
            letters = self.rng.integers(97, 123, self.rng.integers(3, 9))
            words = text.split(" ")
            words.insert(int(self.rng.integers(len(words) + 1)), bytes(letters.astype(np.uint8)).decode())
            text = " ".join(words)
        return text

    def one(self, which: int, colour: str) -> str:
        noun = self._described(self._noun(which))
        table = ONE_NO_COLOUR if self.rng.random() < 0.12 else ONE
        return self._dress(self._pick(table).format(a=with_article(noun), A=noun, c=self._colour(colour)))

    def two(self, first: int, second: int, arrangement: str, colour: str) -> str:
        """`first` stands left of or above `second`; the caption may say it from either side."""
        if arrangement == "beside":
            relation = ("left", "right", "beside")[self.rng.integers(3)]
        else:
            relation = ("above", "below")[self.rng.integers(2)]
        a, b = (second, first) if relation in ("right", "below") else (first, second)
        a, b = self._described(self._noun(a)), self._described(self._noun(b))
        table = TWO_NO_COLOUR if self.rng.random() < 0.10 else TWO
        return self._dress(self._pick(table).format(
            a=with_article(a), b=with_article(b), A=a, B=b, rel=self._pick(RELATIONS[relation]), c=self._colour(colour),
        ))


def every_word() -> list[str]:
    """Each word a caption can hold, for the tokenizer's merges."""
    texts = [*OPENINGS, *FILLERS, *ENDINGS, *V.COLOURS]
    texts += [n for names in V.OBJECTS for n in names]
    texts += [n for names in (*V.COLOUR_SYNONYMS.values(), *RELATIONS.values()) for n in names]
    texts += [w for table in (ONE, ONE_NO_COLOUR, TWO, TWO_NO_COLOUR) for line in table for w in line.split() if "{" not in w]
    words = {w for text in texts for w in text.replace(",", "").replace("-", " ").split() if w.isalpha()}
    return sorted(words | {"a", "an"})
