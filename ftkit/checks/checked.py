"""`Checked`: what a check looked for and what it found, in data before training, and in results (lessons 02 and 03).

Of data everything is told in one table, how long texts are in tokens in one of its own; of results whether tuning has
beaten what is simple, and whether test was opened too often.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ftkit import plots
from ftkit.checks.personal import personal_data
from ftkit.data import Rows, Splits, near_duplicates
from ftkit.display import Picture, Record, count, percent, points, shorten
from ftkit.evaluation import Evaluation
from ftkit.findings import Finding, catalogue
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.report import BETTER, WORSE, compare

#: A larger share of cut texts than this is worth a word.
CUT_SHARE = 0.05
_CONTEXT = 12  # tokens shown on either side of a cut
#: Fewer train rows of a class than this are few: a probe then mostly does as well as tuning, or better.
FEW_ROWS = 20
#: From this ratio of the largest to the smallest class on, accuracy hides how the small ones fare.
UNEQUAL = 10
#: A few baselines, a tuned model and a second look at each are eight scores; more begins to be choosing on test.
FEW_LOOKS = 8
_WORSE = "The simple one is better: do not tune here."
_LEVEL = "Chance alone could do that: keep the simple one until tuning has shown more."


class Checked(Record):
    """What a check looked for, and what it found.

    Parameters
    ----------
    what : str
        What was checked, such as the name of a data set.
    looked_for : tuple of str
        The codes of the findings that would have been found, had they been there.
    findings : tuple of Finding
        What was found; empty if all is well. Each has a code that was looked for.

    Raises
    ------
    ValueError
        If something was found that was not looked for.

    >>> Checked(what="my data", looked_for=("FT021",)).summary()
    'my data: looked for 1 thing that goes wrong often, found nothing.'
    """

    what: str
    looked_for: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        vars(self).update(looked_for=tuple(sorted(set(self.looked_for))), findings=tuple(self.findings))
        if unknown := sorted({f.code for f in self.findings} - set(self.looked_for)):
            raise ValueError(f"findings: {', '.join(unknown)} is not in looked_for={self.looked_for}")

    def summary(self) -> str:
        n = len(self.looked_for)
        looked = "1 thing that goes" if n == 1 else f"{n} things that go"
        codes = ", ".join(sorted({f.code for f in self.findings})) or "nothing"
        return f"{self.what}: looked for {looked} wrong often, found {codes}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        told = {code: [f.message for f in self.findings if f.code == code] or ["not found"] for code in self.looked_for}
        rows = [(code, catalogue()[code]["title"], message) for code in told for message in told[code]]
        return [("What was looked for", pd.DataFrame(rows, columns=["Code", "Title", "Here"]))]


def check_data(base: Base, data: Splits) -> Checked:
    """Look for near-duplicates across splits, personal data, cut texts, unequal classes and small ones.

    What was noticed while the data were read is told as well.

    Parameters
    ----------
    base : Base
        Its tokenizer and its `max_tokens` decide which texts are cut.
    data : Splits
        All three splits are searched for near-duplicates and personal data; lengths and classes are those of train.
    """
    in_texts = near_duplicates(data), personal_data(data.joined()), token_lengths(base, data.train)
    found = [*data.findings, *(finding for searched in in_texts for finding in searched.findings)]
    looked_for = {"FT028", "FT029", "FT091", "FT092", "FT093"} | {f.code for f in data.findings}
    counts, names = data.train.counts, [repr(name) for name in data.label_names]
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    if counts[largest] >= UNEQUAL * max(counts[smallest], 1):
        told = f"{names[largest]} has {count(counts[largest])} train rows, {names[smallest]} {counts[smallest]}"
        found.append(Finding(code="FT091", message=f"{data.name}: {told}."))
    if few := [f"{name} ({n})" for name, n in zip(names, counts, strict=True) if n < FEW_ROWS]:
        told = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        found.append(Finding(code="FT092", message=f"{data.name}: fewer than {FEW_ROWS} train rows of {told}."))
    return Checked(what=data.name, looked_for=tuple(looked_for), findings=tuple(found))


def check_baselines(simple: Evaluation | Sequence[Evaluation], tuned: Evaluation) -> Checked:
    """Look whether a tuned model beats simple baselines by more than chance, and how often test was opened.

    Parameters
    ----------
    simple : Evaluation or sequence of them
        Baselines that cost next to nothing, such as the majority class and TF-IDF.
    tuned : Evaluation
        The tuned model (`run.on_valid` while choosing), on the same rows.

    Returns
    -------
    Checked
        With FT071 for each baseline that was not beaten, and FT072 where *test* was opened more than eight times.

    Raises
    ------
    FtkitError
        FT070, if they were not scored on the same rows.
    """
    several, found = [simple] if isinstance(simple, Evaluation) else list(simple), []
    for result in (compare(one, tuned) for one in several):
        low, high = result.interval()
        both = f"{result.before.name} has {percent(result.before.accuracy)}, {tuned.name} {percent(tuned.accuracy)}"
        change = f"{points(result.difference())} points (95 % interval {points(low)} to {points(high)})"
        told = f"{both}: a change of {change} on the {len(tuned.rows)} {tuned.rows.name} rows."
        if result.verdict != BETTER:
            found.append(Finding(code="FT071", message=f"{told} {_WORSE if result.verdict == WORSE else _LEVEL}"))
    opened = max(e.opened for e in (*several, tuned))
    if tuned.rows.name == "test" and opened > FEW_LOOKS:
        enough = f"{FEW_LOOKS} are enough for a few baselines, a tuned model and a second look at each."
        found.append(Finding(code="FT072", message=f"test was opened {opened} times, and {enough}"))
    what = f"{tuned.name} against {', '.join(e.name for e in several)}"
    return Checked(what=what, looked_for=("FT071", "FT072"), findings=tuple(found))


def check_comparison(plans: Sequence[Plan], data: Splits) -> Checked:
    """Look whether plans that are to be compared differ in more than is meant: in steps, or in nothing but the method.

    Parameters
    ----------
    plans : sequence of Plan
    data : Splits
        Its train rows decide how many steps an epoch has.

    Returns
    -------
    Checked
        With FT077 where they take different numbers of steps, and FT078 where different things move at one rate.
    """
    found, n_steps = [], [plan.epochs * -(-len(data.train) // plan.batch_size) for plan in plans]
    if len(set(n_steps)) > 1:
        told = " and ".join(f"{count(n)} steps ({plans[n_steps.index(n)].words})" for n in sorted(set(n_steps)))
        found.append(Finding(code="FT077", message=f"These plans take {told} on {data.name}."))
    ways = sorted({plan.words for plan in plans if plan.words != "head"})  # a head has a rate of its own
    if len(ways) > 1 and len(rates := {plan.lr for plan in plans}) == 1:
        found.append(Finding(code="FT078", message=f"{'; '.join(ways)}: all at lr={rates.pop():g}."))
    looked_for = ("FT077", "FT078")
    return Checked(what=f"{len(plans)} plans", looked_for=looked_for, findings=tuple(found))


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
        cut = f"{percent(self.share_cut)} of the {count(len(self.rows))} {self.rows.name} texts are longer than"
        lost = f"{self.max_tokens} tokens, and {percent(self.share_lost)} of all tokens are lost"
        whole = f"{np.quantile(self.n_tokens, 0.95, method='inverted_cdf')} tokens would leave 95 % of the texts whole"
        return (Finding(code="FT029", message=f"{self.rows.source or 'These rows'}: {cut} {lost}; {whole}."),)

    def summary(self) -> str:
        median, longest = int(np.median(self.n_tokens)), int(self.n_tokens.max())
        half = f"Half of the {count(len(self.rows))} {self.rows.name} texts have up to {count(median)} tokens"
        cut = f"the longest has {count(longest)}. At {self.max_tokens} tokens, {percent(self.share_cut)} of the texts"
        return f"{half}, {cut} are cut and {percent(self.share_lost)} of all tokens are never read."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        limits = sorted({32, 64, 128, 256, 512, self.max_tokens})
        each = {f"{n} (now)" if n == self.max_tokens else str(n): replace(self, max_tokens=n) for n in limits}
        rows = [(name, percent(at.share_cut), percent(at.share_lost)) for name, at in each.items()]
        frame = pd.DataFrame(rows, columns=["max_tokens", "Texts cut", "Tokens lost"])
        shown = [(row_id, f"… {shorten(read, 80)}", f"{shorten(lost, 80)} …") for row_id, read, lost in self.cuts]
        where = pd.DataFrame(shown, columns=["Id", "Last words read", "First words cut"])
        tables = [("What a limit would cut", frame), ("Where the longest texts are cut", where)]
        return tables if self.cuts else tables[:1]

    def picture(self) -> Picture:
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
    longest = [i for i in np.argsort(-n_tokens, kind="stable")[:3] if n_tokens[i] > base.max_tokens]  # three are shown
    say = base.tokenizer.decode
    cuts = tuple((rows.ids[i], say(ids[i][max(1, at - _CONTEXT) : at]), say(ids[i][at:-1][:_CONTEXT])) for i in longest)
    return Lengths(rows=rows, n_tokens=n_tokens, max_tokens=base.max_tokens, cuts=cuts)
