"""What moved: weights, representations and attention, tuned beside base; the proof that frozen stayed frozen.

The freeze proof is here: what was planned to move, what the optimizer held, and what moved, group by group.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.optim import Optimizer

from ftkit import methods, tasks
from ftkit.display import Record, count
from ftkit.drift.moved import Drift, attention_shift, in_words, linear_cka, planned_words, relative_change, what_moved
from ftkit.findings import Finding
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record import Run
from ftkit.training.steps import held

__all__ = ["Drift", "Proof", "attention_shift", "freeze_proof", "linear_cka", "prove", "what_moved"]


class Proof(Record):
    """Whether plan, optimizer and weights agree on what may move.

    Parameters
    ----------
    name : str
        Whose weights these are.
    groups : DataFrame
        One row a group, in the order of the computation: `group`; `planned` (`"moves"`, `"frozen"`,
        `"moves in part"`); `n_weights`; `n_planned`, how many of them may move; `n_optimizer`, how many the
        optimizer held; `weights_moved`, the relative change (exactly 0.0: bit for bit what they were); `agrees`.
    findings : tuple of Finding
        FT058: planned to move, but stood still. FT053: frozen, but moved. FT052: the optimizer held what the plan
        freezes. FT059: a frozen part was in training mode.
    """

    name: str
    groups: pd.DataFrame
    findings: tuple[Finding, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was found: every group did what the plan says."""
        return not self.findings

    def frame(self) -> pd.DataFrame:
        """Return the groups, in numbers."""
        return self.groups

    def summary(self) -> str:
        if not self.holds:
            where = ", ".join(self.groups["group"][~self.groups["agrees"]])
            found = " ".join(f"{f.code} {f.message}" for f in self.findings)
            return f"ALARM: what was planned and what happened disagree in {where}: {found}"
        has_moved = self.groups["weights_moved"] != 0
        moved, still = (", ".join(self.groups["group"][which]) for which in (has_moved, ~has_moved))
        frozen = f" Bit for bit as before: {still}." if still else ""
        return f"The proof holds for {self.name}. Moved: {moved or 'nothing'}.{frozen}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        shown = []
        for row in self.groups.itertuples():
            planned = f"{row.planned} ({count(row.n_planned)})" if row.n_planned else row.planned
            held = count(row.n_optimizer) if row.n_optimizer else "none"
            shown.append((row.group, planned, held, in_words(row.weights_moved), "yes" if row.agrees else "NO"))
        columns = ["group", "planned (weights)", "weights in the optimizer", "moved", "agrees"]
        planned = ("Planned, in the optimizer, moved", pd.DataFrame(shown, columns=columns))
        return [planned, *self.found("code", "finding", "here")]


def freeze_proof(run: Run) -> Proof:
    """Compare a run's plan with what its optimizer held, and with the weights of its model, bit by bit.

    Parameters
    ----------
    run : Run
        Its weights are compared with its base's; the head's change is the one that the run noted.
    """
    # Weights that went back to the start, or that gradual unfreezing had not reached, stand still for good reason.
    due = {g for epoch in range(1, run.best_epoch + 1) for g in run.plan.stage(list(run.optimized), epoch)}
    return _proof(run.name, run.plan, run.base, run.model, run.optimized, run.moved["head"], due)


def prove(
    plan: Plan, base: Base, model: tasks.Classifier, optimizer: Optimizer, *, start: Mapping[str, Tensor] | None = None
) -> Proof:
    """Compare a plan with an optimizer and a model of one's own, after a training loop of one's own.

    Call it right after the loop, before `model.eval()`, so that it also sees which parts were in training mode.

    Parameters
    ----------
    plan : Plan
        What should have moved.
    base : Base
        What the model was made from.
    model : tasks.Classifier
        The trained model.
    optimizer : torch.optim.Optimizer
        The one that was stepped.
    start : mapping of `"head.weight"` and `"head.bias"` to tensors, optional
        The head's weights before the loop; by default zeros, as a `Classifier` is made.
    """

    groups, now = tasks.classifier_groups(model), dict(model.named_parameters())
    head = {n: torch.zeros_like(now[n]) for n in groups["head"]} | dict(start or {})
    moved = relative_change(groups["head"], head, now)
    return _proof("this loop", plan, base, model, held(optimizer, model, groups), moved, set(groups))


def _proof(
    name: str, plan: Plan, base: Base, model: tasks.Classifier, held: Mapping[str, int], head_went: float, due: set[str]
) -> Proof:
    groups, preview = tasks.classifier_groups(model), plan.preview(base, model.head.out_features)
    movable, words = plan.movable(groups), planned_words(preview)
    before = {f"encoder.{n}": p for n, p in methods.start(base.encoder, plan).named_parameters()}
    after = dict(model.named_parameters())
    awake = _awake(model, groups, movable)
    rows, findings = [], []
    for group, names in groups.items():
        n_planned, n_held = preview.moving[group], held[group]
        moved = head_went if group == "head" else relative_change(names, before, after)
        # Length is the measure, equality the proof: a change can be too small to show in a length.
        frozen = [n for n in names if n not in movable]
        strayed = [n for n in frozen if (moved if group == "head" else not torch.equal(before[n], after[n]))]
        found = {}
        if n_held < n_planned:
            found["FT058"] = f"the optimizer held {count(n_held)} of the {count(n_planned)} weights planned to move."
        elif n_planned and not moved and group in due:
            found["FT058"] = "planned to move and in the optimizer, but no bit of it changed."
        if n_held > n_planned:
            found["FT052"] = f"the optimizer held {count(n_held)} weights; the plan lets {count(n_planned)} move."
        if strayed:
            found["FT053"] = f"{len(strayed)} frozen tensors changed, such as {strayed[0]}."
        if group in awake:
            found["FT059"] = f"frozen, but in training mode, such as {awake[group]}."
        findings += [Finding(code=code, message=f"{group}: {told}") for code, told in found.items()]
        rows.append((group, words[group], preview.sizes[group], n_planned, n_held, moved, not found))
    columns = ["group", "planned", "n_weights", "n_planned", "n_optimizer", "weights_moved", "agrees"]
    return Proof(name=name, groups=pd.DataFrame(rows, columns=columns), findings=tuple(findings))


def _awake(model: tasks.Classifier, groups: Mapping[str, Sequence[str]], movable: set[str]) -> dict[str, str]:
    """Return the frozen groups with a part in training mode to which that makes a difference, and one such part."""
    out: dict[str, str] = {}
    for name, module in model.named_modules():
        drops = isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0
        if not module.training or not (drops or getattr(module, "track_running_stats", False)):
            continue
        # A dropout layer has no weights: it belongs to the smallest part around it that has some.
        around, owners = name, []
        while around and not owners:
            owners = [g for g, names in groups.items() if any(n.startswith(f"{around}.") for n in names)]
            around = around.rpartition(".")[0]
        if not any(n in movable for g in owners or ["head"] for n in groups[g]):
            out.setdefault((owners or ["head"])[0], name)
    return out
