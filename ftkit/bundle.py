"""A tuned model that answers without the rows it learned from, and as ONNX without ftkit (lesson 09)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ftkit import record, tasks
from ftkit.data import Rows, files, repair
from ftkit.display import Record, count
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base, load_pretrained


class Bundle(Record):
    """A tuned model and what it needs to answer; can be evaluated as a run can.

    Parameters
    ----------
    name : str
    base : Base
        What reads the texts: tokenizer, pooling, the longest text.
    model : tasks.Classifier
    data : Rows
        No rows: the names and the kind of the labels.
    """

    name: str
    base: Base
    model: tasks.Classifier
    data: Rows

    predict_proba, predict = record.Run.predict_proba, record.Run.predict

    def answer(self, source: Any, *, text: str | None = None) -> pd.DataFrame:
        """Return a table of texts with the answer to each, and its probability, in two more columns.

        Parameters
        ----------
        source : Any
            A file or whatever else `load_data` reads.
        text : str, optional
            The column of the texts; by default one that is named like it.

        Raises
        ------
        FtkitError
            As `load_data` does for a file or a column that cannot be read.
        """
        tables, where, _ = files.read(source)
        cells = repair.choose(tables["train"], where, {"text": text})[0]["text"]
        found = self.predict(["" if repair.is_missing(cell) else repair.readable(cell) for cell in cells])
        answers = ["; ".join(a) if isinstance(a, list) else a for a in found.labels]
        return tables["train"].assign(answer=answers, probability=found.proba.max(axis=1).round(4))

    def summary(self) -> str:
        return f"{self.name} answers with one of {count(self.data.n_labels)} labels; it holds no training rows."


def load(folder: str | Path, base: Base | None = None) -> Bundle:
    """Read a saved run as something that answers; the rows it learned from are not needed.

    Parameters
    ----------
    folder : str or Path
        What `record.save` or `ftkit run --out` has written.
    base : Base, optional
        What the run started from, where it cannot be loaded by its name.

    Raises
    ------
    FtkitError
        FT081, if the folder holds no run, a damaged one, or one of another base.
    """
    path = Path(folder) / record.NAME
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        plan, names, kind = Plan(**told["plan"]), told["labels"], told["kind"]
        labels = np.zeros((0, len(names))[: 1 + (kind == "multiple")])
        data = Rows(name="none", texts=(), labels=labels, label_names=names, kind=kind)
        base = base or load_pretrained(told["base_name"], max_tokens=told["base"]["max_tokens"])
        if told["base"] != record.identity(base, data, plan)["base"]:
            raise FtkitError("FT081", f"{path} is of a run of another base than {base.name}.")
        model, _ = record.restored(path, base, plan, len(names))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FtkitError("FT081", f"{path} is damaged, or no run of ftkit: {error}.") from error
    return Bundle(name=Path(folder).name, base=base, model=model, data=data)
