"""Everything that can be said about data before a model is trained on it, in one table (lesson 02)."""

from __future__ import annotations

from ftkit.checks.checked import Checked
from ftkit.checks.lengths import token_lengths
from ftkit.data import Splits, near_duplicates
from ftkit.display import count
from ftkit.findings import Finding
from ftkit.pretrained import Base

#: Fewer train rows of a class than this are few: a probe then mostly does as well as tuning, or better.
FEW_ROWS = 20
#: From this ratio of the largest to the smallest class on, accuracy hides how the small ones fare.
UNEQUAL = 10


def check_data(base: Base, data: Splits) -> Checked:
    """Look for near-duplicates across splits, cut texts, unequal classes and small ones.

    What was noticed while the data were read is told as well.

    Parameters
    ----------
    base : Base
        Its tokenizer and its `max_tokens` decide which texts are cut.
    data : Splits
        All three splits are searched for near-duplicates; lengths and classes are those of train.
    """
    found = [*data.findings, *near_duplicates(data).findings, *token_lengths(base, data.train).findings]
    looked_for = {"FT028", "FT029", "FT091", "FT092"} | {f.code for f in data.findings}
    counts, names = data.train.counts, [repr(name) for name in data.label_names]
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    if counts[largest] >= UNEQUAL * max(counts[smallest], 1):
        told = f"{names[largest]} has {count(counts[largest])} train rows, {names[smallest]} {counts[smallest]}"
        found.append(Finding(code="FT091", message=f"{data.name}: {told}."))
    if few := [f"{name} ({n})" for name, n in zip(names, counts, strict=True) if n < FEW_ROWS]:
        told = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        found.append(Finding(code="FT092", message=f"{data.name}: fewer than {FEW_ROWS} train rows of {told}."))
    return Checked(what=data.name, looked_for=tuple(looked_for), findings=tuple(found))
