"""Look at the mistakes: which answers are wrong and how sure they were, and which tokens one rests on (lesson 08)."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import torch

from ftkit import tasks
from ftkit.data import Rows
from ftkit.data.repair import did_you_mean
from ftkit.display import Record, count, escape, percent
from ftkit.evaluation import Evaluation
from ftkit.record import Run
from ftkit.report import Comparison

#: Ways to look at a `Mistakes.frame()`, in words: which of its rows (a pandas query), and what sorts them.
VIEWS = {
    "wrong, surest first": ("not right", "sure", False),
    "wrong, highest loss first": ("not right", "loss", False),
    "wrong now, right before": ("not right and right_before", "sure", False),
    "right now, wrong before": ("right and not right_before", "sure", False),
    "close calls, the closest first": ("index >= 0", "margin", True),
    "everything, highest loss first": ("index >= 0", "loss", False),
}
_ADVICE = "A confident mistake is a wrong label, an ambiguous text, or something that was not learned."
_BOX = "display:inline-block;border:1px solid rgba(128,128,128,.8);padding:.1em .35em;margin:.1em"


class Mistakes(Record):
    """The answers to some rows, one by one: right or wrong, how sure, and what was answered before.

    Where an evaluation has several repeats, its probabilities are the mean over them.

    Parameters
    ----------
    after : Evaluation
        The answers to look at.
    before : Evaluation, optional
        Earlier answers to the same rows.

    Raises
    ------
    FtkitError
        FT070, if the two were not scored on the same rows.
    """

    after: Evaluation
    before: Evaluation | None = None

    def __post_init__(self) -> None:
        Comparison(before=self.before or self.after, after=self.after)

    def frame(self) -> pd.DataFrame:
        """Return every row, in the order of the rows.

        Columns: `row` (its id), `label`, `answer`, `right`; `sure`, the probability of the answer (of multiple labels:
        of the part of it that is least probable); `loss` in nats; `margin`, from 0 to 1, how far the answer was from
        being another one; with answers from before also `before` and `right_before`.
        """
        rows, (proba, said, names, right) = self.after.rows, _answered(self.after)
        found = pd.DataFrame({"row": rows.ids, "label": _names(rows), "answer": names, "right": right})
        found["sure"] = _given_to(said, proba).min(axis=1)
        found["loss"] = -np.log(np.maximum(_given_to(rows.labels, proba), 1e-12)).mean(axis=1)
        # An answer in several parts changes where one of them crosses a half: for ordered labels "this rank or lower".
        halves = {"multiple": proba, "ordered": proba.cumsum(axis=1)[:, :-1]}.get(rows.kind)
        two = np.sort(proba, axis=1)[:, -2:]
        found["margin"] = np.ptp(two, axis=1) if halves is None else np.abs(2 * halves - 1).min(axis=1)
        if self.before:
            _, _, found["before"], found["right_before"] = _answered(self.before)
        return found

    def summary(self) -> str:
        wrong, name, n_repeats = ~self.frame()["right"], self.after.rows.name, len(self.after.proba)
        told = f"{self.after.name}: {count(wrong.sum())} of {count(len(wrong))} {name} rows are wrong"
        mean = f" Probabilities are the mean of {n_repeats} repeats." if n_repeats > 1 else ""
        least = " How sure: of the label that is least sure." if self.after.rows.kind == "multiple" else ""
        return f"{told} ({percent(wrong.mean())}).{mean}{least} {_ADVICE}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        wrong = self.frame().query("not right")
        kinds = wrong.groupby(["label", "answer"]).size().sort_values(ascending=False, kind="stable")
        return [("What was taken for what", kinds.rename("rows").reset_index().head(5))] if len(wrong) else []


def _answered(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Return mean probabilities, the answers that they stand for, as labels and by name, and whether each is right."""
    rows, proba = evaluation.rows, evaluation.proba.mean(axis=0)
    said = tasks.answers(proba, rows.kind)
    right = (said == rows.labels).reshape(len(rows), -1).all(axis=1)
    return proba, said, _names(dataclasses.replace(rows, labels=said)), right


def _names(rows: Rows) -> list[str]:
    return [name or "(none)" for name in rows.named_labels()]


def _given_to(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Return the probability of each row's label, (n, 1), or that each of the multiple ones is as it is."""
    return np.where(labels > 0, proba, 1 - proba) if labels.ndim > 1 else proba[np.arange(len(proba)), labels][:, None]


class Attributions(Record):
    """Which tokens of a text push an answer, and how much.

    Parameters
    ----------
    text : str
    label : str
        What they push towards, or away from.
    pieces : tuple of str
        The tokens that the model reads, special ones included.
    pushes : numpy.ndarray, shape (len(pieces),)
        By how much each raises the label's logit (its score before it becomes a probability).
    delta : float
        By how much their sum misses the difference that they should add up to; near 0 if there were steps enough.
    """

    text: str
    label: str
    pieces: tuple[str, ...]
    pushes: np.ndarray
    delta: float

    def summary(self) -> str:
        most = int(self.pushes.argmax())
        told = f"{self.pieces[most]!r} pushes most towards {self.label} ({self.pushes[most]:+.2f}). All tokens add"
        return f"{told} {self.pushes.sum():+.2f} to its logit, to within {abs(self.delta):.2g}. A hint, not a proof."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        columns = {"token": self.pieces, "push": [f"{push:+.2f}" for push in self.pushes]}
        return [(f"What each token adds to the logit of {self.label}", pd.DataFrame(columns))]

    def boxes(self) -> str:
        """Return the tokens as HTML: a box each, with its number; the stronger the push, the stronger the tint."""
        html, most = "", np.abs(self.pushes).max() or 1
        for piece, push in zip(self.pieces, self.pushes, strict=True):
            tint = f"rgba({'217,120,45' if push > 0 else '42,111,187'},{0.5 * abs(push) / most:.2f})"
            html += f'<span style="{_BOX};background:{tint}">{escape(piece)} <b>{push:+.2f}</b></span>'
        return html

    def _repr_html_(self) -> str:
        return super()._repr_html_().replace("</p>", f"</p><p>{self.boxes()}</p>", 1)


def attributions(run: Run, text: str, label: str | None = None, *, n_steps: int = 32) -> Attributions:
    """Return how much each token pushes an answer, by integrated gradients (captum).

    They walk in small steps from the same text with every token unknown (`[UNK]`), special ones aside, to the text
    itself, and add up how much each token's vector moves the label's logit. Another method, or another place to start
    from, gives other numbers.

    Parameters
    ----------
    run : Run
        It is left as it is.
    text : str
    label : str, optional
        The name of a label; by default the most probable one.
    n_steps : int
        More are more exact, and take longer.

    Raises
    ------
    ValueError
        If there is no label of that name.

    Notes
    -----
    M. Sundararajan, A. Taly and Q. Yan, Axiomatic Attribution for Deep Networks (ICML 2017).
    """
    from captum.attr import LayerIntegratedGradients

    tokenizer, names = run.base.tokenizer, run.data.label_names
    label = names[run.predict_proba([text])[0].argmax()] if label is None else label
    if label not in names:
        raise ValueError(f"there is no label {label!r}; {did_you_mean(label, names, f'there are {names}')}")
    # Other modules around the same weights: captum hooks into them, while another thread may ask the run.
    model = copy.deepcopy(run.model, {id(p): p for p in run.model.parameters()}).eval()
    ids = torch.tensor(run.base.tokenize([text]), device=next(model.parameters()).device)

    def logit(ids: torch.Tensor) -> torch.Tensor:
        return model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[:, names.index(label)]

    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    unknown = next(
        i for i in (tokenizer.unk_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id, 0) if i is not None
    )
    walk = LayerIntegratedGradients(logit, model.encoder.get_input_embeddings())
    start = torch.where(special, ids, unknown)
    pushes, delta = walk.attribute(ids, start, n_steps=n_steps, internal_batch_size=16, return_convergence_delta=True)
    pieces, pushes = tuple(tokenizer.convert_ids_to_tokens(ids[0].tolist())), pushes[0].sum(-1).numpy(force=True)
    return Attributions(text=text, label=label, pieces=pieces, pushes=pushes, delta=float(delta))
