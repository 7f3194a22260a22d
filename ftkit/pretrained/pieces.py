"""How texts break into the pieces that a model reads."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import pandas as pd

from ftkit.display import Record, count, escape, percent
from ftkit.pretrained.base import Base, several

_SHOWN_TEXTS, _SHOWN_WORDS = 6, 10
_BOX = "display:inline-block;border:1px solid rgba(128,128,128,.8);padding:0 .25em;line-height:1.5;"
_CUT = "border-style:dashed;text-decoration:line-through;opacity:.7;"


class Piece(NamedTuple):
    """A token: its text, the number of its word (None for a special token), its place in the text, cut or not."""

    text: str
    word: int | None
    start: int
    end: int
    cut: bool


class Tokens(Record):
    """How texts break into the pieces that a model reads.

    Parameters
    ----------
    texts : tuple of str
        What was broken.
    pieces : tuple of tuple of Piece
        The tokens of each text, special ones included, with those beyond the limit marked as cut.
    max_tokens : int
        The limit.
    """

    texts: tuple[str, ...]
    pieces: tuple[tuple[Piece, ...], ...]
    max_tokens: int

    def frame(self) -> pd.DataFrame:
        """Each word in turn: number of its text, the word as written, its pieces, how many, and whether it was cut."""

        rows = []
        for number, (text, pieces) in enumerate(zip(self.texts, self.pieces, strict=True)):
            for parts in (list(of_word) for _, of_word in groupby(pieces, key=lambda piece: piece.word)):
                written = text[parts[0].start : parts[-1].end].strip()
                if any(c.isalnum() for c in written):  # a comma is a token, but not a word; nor is [CLS], of no letters
                    rows.append((number, written, " ".join(p.text for p in parts), len(parts), parts[-1].cut))
        return pd.DataFrame(rows, columns=["text", "word", "pieces", "n_pieces", "cut"])

    def summary(self) -> str:
        of_words, cut = self.frame()["n_pieces"], sum(p.cut for pieces in self.pieces for p in pieces)
        n_words, n_pieces, n_broken = len(of_words), int(of_words.sum()), int((of_words > 1).sum())
        made = f"{_many(n_words, 'word')} in {_many(len(self.texts), 'text')} make {_many(n_pieces, 'piece')}"
        broken = f"{percent(n_broken / max(n_words, 1))} of the words are broken."
        lost = f" Cut, because they lie beyond the limit of {self.max_tokens} tokens: {_many(cut, 'piece')}."
        return f"{made}, {n_pieces / max(n_words, 1):.2f} a word; {broken}{lost if cut else ''}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        broken = self.frame().query("n_pieces > 1").drop_duplicates("word")
        broken = broken.sort_values("n_pieces", ascending=False, kind="stable").head(_SHOWN_WORDS)
        columns = {"word": broken["word"], "pieces": broken["pieces"], "how many": broken["n_pieces"]}
        return [("Words that are broken, most pieces first", pd.DataFrame(columns))] if len(broken) else []

    def __repr__(self) -> str:
        lines = [" ".join(f"({p.text})" if p.cut else p.text for p in row) for row in self.pieces[:_SHOWN_TEXTS]]
        return "\n\n".join([super().__repr__(), *lines])

    def _repr_html_(self) -> str:
        # Pieces of one word touch, words stand apart: the eye needs no colour to see what broke.
        shown = "".join(f'<p style="margin:.2em 0">{boxes(row)}</p>' for row in self.pieces[:_SHOWN_TEXTS])
        first, *rest = super()._repr_html_().split("</p>", 1)
        return f"{first}</p>{shown}{rest[0]}"


def boxes(pieces: Sequence[Piece]) -> str:
    """Return pieces as HTML: a box each, those of one word touching, cut ones dashed and struck through."""
    html = ""
    for before, piece in pairwise([None, *pieces]):
        joined = before and piece.word is not None and piece.word == before.word
        gap = "margin-left:-1px;" if joined else "margin-left:.35em;"
        quiet = "opacity:.75;" if piece.word is None else ""
        html += f'<span style="{_BOX}{gap}{quiet}{_CUT if piece.cut else ""}">{escape(piece.text)}</span>'
    return html


def _many(n: int, thing: str) -> str:
    return f"{count(n)} {thing}{'' if n == 1 else 's'}"


def tokens(base: Base, texts: Sequence[str]) -> Tokens:
    """Return how texts break into pieces: a word that was frequent in training is one, a rare one is several.

    Parameters
    ----------
    base : Base
        Gives the tokenizer and the limit on tokens.
    texts : sequence of str

    Returns
    -------
    Tokens

    Raises
    ------
    TypeError
        If `texts` is a single string.

    Notes
    -----
    M. Schuster and K. Nakajima, Japanese and Korean voice search (ICASSP 2012), for WordPiece, which `minilm` uses.
    """
    texts = tuple(several(texts))
    # Uncut, so that what is lost can be seen; quiet, because the tokenizer warns of what we are about to show.
    encoded = base.tokenizer(list(texts), verbose=False).encodings if texts else []
    room = base.max_tokens - base.tokenizer.num_special_tokens_to_add()
    pieces = []
    for text in encoded:
        read, seen, over = [], 0, len(text.tokens) > base.max_tokens
        for name, word, (start, end) in zip(text.tokens, text.word_ids, text.offsets, strict=True):
            seen += word is not None
            read.append(Piece(name, word, start, end, over and word is not None and seen > room))
        pieces.append(tuple(read))
    return Tokens(texts=texts, pieces=tuple(pieces), max_tokens=base.max_tokens)
