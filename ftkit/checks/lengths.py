"""How long texts are in tokens, and what is lost where they are cut (lesson 02)."""

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ftkit import plots
from ftkit.data import Rows
from ftkit.display import Record, count, percent, record, shorten
from ftkit.findings import Finding
from ftkit.pretrained import Base

#: A larger share of cut texts than this is worth a word.
CUT_SHARE = 0.05
_SHOWN = 3  # texts whose cut is shown
_CONTEXT = 12  # tokens shown on either side of a cut


@record
class Lengths(Record):
    """The number of tokens of each text, and what a limit cuts.

    Parameters
    ----------
    rows : Rows
        The texts that were counted.
    n_tokens : np.ndarray
        (n,) int64: tokens of each text before any cut, the special ones at its ends included.
    max_tokens : int
        The limit: what goes beyond it is never read.
    cuts : tuple of (str, str, str)
        For the longest texts: id, the last words that are read, the first words that are not.
    """

    rows: Rows
    n_tokens: np.ndarray
    max_tokens: int
    cuts: tuple[tuple[str, str, str], ...] = ()

    @property
    def share_cut(self) -> float:
        """The share of texts that lose their end, from 0 to 1."""
        return float((self.n_tokens > self.max_tokens).mean())

    @property
    def share_lost(self) -> float:
        """The share of all tokens that is never read, from 0 to 1."""
        return float(np.maximum(self.n_tokens - self.max_tokens, 0).sum() / self.n_tokens.sum())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """FT029, if more than one text in twenty is cut."""
        if self.share_cut <= CUT_SHARE:
            return ()
        told = (
            f"{percent(self.share_cut)} of the {count(len(self.rows))} {self.rows.name} texts are longer than "
            f"{self.max_tokens} tokens, and {percent(self.share_lost)} of all tokens are lost; "
            f"{np.quantile(self.n_tokens, 0.95, method='inverted_cdf')} tokens would leave 95 % of the texts whole."
        )
        return (Finding(code="FT029", message=f"{self.rows.source or 'These rows'}: {told}"),)

    def summary(self) -> str:
        median, longest = int(np.median(self.n_tokens)), int(self.n_tokens.max())
        return (
            f"Half of the {count(len(self.rows))} {self.rows.name} texts have up to {count(median)} tokens, "
            f"the longest has {count(longest)}. At {self.max_tokens} tokens, {percent(self.share_cut)} of the texts "
            f"are cut and {percent(self.share_lost)} of all tokens are never read."
        )

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = []
        for limit in sorted({32, 64, 128, 256, 512, self.max_tokens}):
            at = replace(self, max_tokens=limit)
            now = f"{limit} (now)" if limit == self.max_tokens else str(limit)
            rows.append((now, percent(at.share_cut), percent(at.share_lost)))
        tables = [("What a limit would cut", pd.DataFrame(rows, columns=["max_tokens", "Texts cut", "Tokens lost"]))]
        if self.cuts:
            shown = [(row_id, f"… {shorten(read, 80)}", f"{shorten(lost, 80)} …") for row_id, read, lost in self.cuts]
            frame = pd.DataFrame(shown, columns=["Id", "Last words read", "First words cut"])
            tables.append(("Where the longest texts are cut", frame))
        return tables

    def picture(self) -> tuple[Figure, str]:
        mark = (f"max_tokens = {self.max_tokens}", self.max_tokens)
        ax = plots.histogram(self.n_tokens, label="tokens in a text", mark=mark)
        return ax.figure, f"Tokens in each text; {percent(self.share_cut)} of the texts go beyond {self.max_tokens}."


def token_lengths(base: Base, rows: Rows) -> Lengths:
    """Count the tokens of each text before it is cut, and say what `base.max_tokens` cuts off.

    Parameters
    ----------
    base : Base
        Its tokenizer and its `max_tokens` are used, not its weights.
    rows : Rows
        At least one text.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    if not len(rows):
        raise ValueError(f"rows: there are no {rows.name} texts to count")
    # verbose=False: the tokenizer would warn of texts that are too long for the model, and this is to find them.
    ids = base.tokenizer(list(rows.texts), truncation=False, verbose=False)["input_ids"]
    n_tokens = np.array([len(i) for i in ids], dtype=np.int64)
    at = base.max_tokens - 1  # the last place goes to the token that ends a text
    longest = [i for i in np.argsort(-n_tokens, kind="stable")[:_SHOWN] if n_tokens[i] > base.max_tokens]
    say = base.tokenizer.decode
    cuts = tuple((rows.ids[i], say(ids[i][max(1, at - _CONTEXT) : at]), say(ids[i][at:-1][:_CONTEXT])) for i in longest)
    return Lengths(rows=rows, n_tokens=n_tokens, max_tokens=base.max_tokens, cuts=cuts)
