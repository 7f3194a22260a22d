"""The freeze proof: what was planned to move, what the optimizer held, and what moved, group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from ftkit import methods, tasks
from ftkit.display import Record, count, record
from ftkit.drift.measures import relative_change
from ftkit.findings import Finding
from ftkit.plan import Plan
from ftkit.pretrained import Base, group_sizes
from ftkit.record import Run


@record
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
            wrong = list(self.groups["group"][~self.groups["agrees"]])
            where = f" in {', '.join(wrong)}" if wrong else ""
            return f"ALARM: what was planned and what happened disagree{where}: " + " ".join(
                f"{f.code} {f.message}" for f in self.findings
            )
        moved, still = (self.groups[self.groups["weights_moved"] != 0], self.groups[self.groups["weights_moved"] == 0])
        told = ", ".join(moved["group"]) or "nothing"
        frozen = f" Bit for bit as before: {', '.join(still['group'])}." if len(still) else ""
        return f"The proof holds for {self.name}. Moved: {told}.{frozen}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        shown = [
            (
                row.group,
                f"{row.planned} ({count(row.n_planned)})" if row.n_planned else row.planned,
                count(row.n_optimizer) if row.n_optimizer else "none",
                f"{100 * row.weights_moved:.3g} %" if row.weights_moved else "0 (exactly)",
                "yes" if row.agrees else "NO",
            )
            for row in self.groups.itertuples()
        ]
        columns = ["group", "planned (weights)", "weights in the optimizer", "moved", "agrees"]
        tables = [("Planned, in the optimizer, moved", pd.DataFrame(shown, columns=columns))]
        if self.findings:
            found = [(f.code, f.title, f.message) for f in self.findings]
            tables.append(("Findings", pd.DataFrame(found, columns=["code", "finding", "here"])))
        return tables


def freeze_proof(run: Run) -> Proof:
    """Compare a run's plan with what its optimizer held, and with the weights of its model, bit by bit.

    Parameters
    ----------
    run : Run
        Its weights are compared with its base's; the head's change is the one that the run noted.
    """
    # Weights that went back to the start, or that gradual unfreezing had not reached, stand still for good reason.
    names = list(run.optimized)
    due = {g for epoch in range(1, run.best_epoch + 1) for g in run.plan.stage(names, epoch)}
    return _proof(run.name, run.plan, run.base, run.model, run.optimized, run.moved["head"], due)


def prove(
    plan: Plan,
    base: Base,
    model: tasks.Classifier,
    optimizer: torch.optim.Optimizer,
    *,
    start: Mapping[str, torch.Tensor] | None = None,
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

    groups = tasks.classifier_groups(model)
    now = {n: p.detach() for n, p in model.named_parameters()}
    head = {n: torch.zeros_like(now[n]) for n in groups["head"]} | dict(start or {})
    held = {id(p) for setting in optimizer.param_groups for p in setting["params"]}
    parameters = dict(model.named_parameters())
    optimized = {
        g: sum(parameters[n].numel() for n in names if id(parameters[n]) in held) for g, names in groups.items()
    }
    moved = relative_change(groups["head"], head, now)
    return _proof("this loop", plan, base, model, optimized, moved, set(groups))


def planned_words(plan: Plan, groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return for each group what the plan says: `"moves"`, `"frozen"` or `"moves in part"`."""
    movable = plan.movable(groups)
    said = {g: (any(n in movable for n in names), all(n in movable for n in names)) for g, names in groups.items()}
    return {g: "moves" if all_ else "moves in part" if some else "frozen" for g, (some, all_) in said.items()}


def _proof(
    name: str,
    plan: Plan,
    base: Base,
    model: tasks.Classifier,
    optimized: Mapping[str, int],
    head_moved: float,
    due: set[str],
) -> Proof:

    groups = tasks.classifier_groups(model)
    movable, words, sizes = plan.movable(groups), planned_words(plan, groups), group_sizes(model, groups)
    before = {f"encoder.{n}": p for n, p in methods.start(base.encoder, plan).named_parameters()}
    after = dict(model.named_parameters())
    awake = _awake(model, groups, movable)
    rows, findings = [], []
    for group, names in groups.items():
        n_planned = sum(after[n].numel() for n in names if n in movable)
        moved = head_moved if group == "head" else relative_change(names, before, after)
        # Length is the measure, equality the proof: a change can be too small to show in a length.
        pairs = [(n, before[n]) for n in names if n in before]
        strayed = [n for n, old in pairs if n not in movable and not torch.equal(old, after[n])]
        if group == "head" and not n_planned and moved:
            strayed = list(names)
        held, found = optimized[group], []
        if held < n_planned:
            found.append(
                (
                    "FT058",
                    f"{group}: the optimizer held {count(held)} of the {count(n_planned)} weights planned to move.",
                )
            )
        elif n_planned and not moved and group in due:
            found.append(("FT058", f"{group}: planned to move and in the optimizer, but no bit of it changed."))
        if held > n_planned:
            found.append(
                ("FT052", f"{group}: the optimizer held {count(held)} weights; the plan lets {count(n_planned)} move.")
            )
        if strayed:
            found.append(("FT053", f"{group}: {len(strayed)} frozen tensors changed, such as {strayed[0]}."))
        if group in awake:
            found.append(("FT059", f"{group}: frozen, but in training mode, such as {awake[group]}."))
        findings += [Finding(code=code, message=message) for code, message in found]
        rows.append((group, words[group], sizes[group], n_planned, held, moved, not found))
    columns = ["group", "planned", "n_weights", "n_planned", "n_optimizer", "weights_moved", "agrees"]
    return Proof(name=name, groups=pd.DataFrame(rows, columns=columns), findings=tuple(findings))


def _awake(model: tasks.Classifier, groups: Mapping[str, Sequence[str]], movable: set[str]) -> dict[str, str]:
    """Return the frozen groups with a part in training mode to which that makes a difference, and one such part."""
    from torch import nn

    group_of = {n: g for g, names in groups.items() for n in names}
    modules = dict(model.named_modules())
    out: dict[str, str] = {}
    for name, module in modules.items():
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if not module.training or not (drops or getattr(module, "track_running_stats", False)):
            continue
        # A dropout layer has no weights: it belongs to the smallest part around it that has some.
        around = name
        while around and not any(n.startswith(around + ".") for n in group_of):
            around = around.rpartition(".")[0]
        owners = {group_of[n] for n in group_of if n.startswith(around + ".")} if around else {"head"}
        if not any(n in movable for g in owners for n in groups[g]):
            out.setdefault(min(owners, key=list(groups).index), name)
    return out
