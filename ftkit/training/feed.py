"""Where the loop gets its batches from: tokens, or what the frozen blocks made of them, computed once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ftkit import cache
from ftkit.findings import Finding, FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base


class Feed:
    """The rows of a run as batches, as far up as its plan leaves the blocks frozen from below.

    Parameters
    ----------
    base : Base
    encoder : torch.nn.Module
        Computes what is kept: the base's own, or a copy on another device, frozen as far as that is asked.
    plan : Plan
    groups : mapping of group name to parameter names, in the order of the computation
    train, valid : lists of token ids
    before_batch : function
        Called before each batch that is computed for the cache.
    tell : function of two int
        Told how many texts, and bytes on disk, are about to be written.

    Attributes
    ----------
    stages : list of mapping
        What was kept, for each depth in turn.
    findings : list of Finding
        FT060 where there was no room, so that all is computed from the tokens.
    """

    def __init__(
        self,
        base: Base,
        encoder: nn.Module,
        plan: Plan,
        groups: Mapping[str, Sequence[str]],
        train: list[list[int]],
        valid: list[list[int]],
        before_batch: Callable[[], None],
        tell: Callable[[int, int], None],
    ) -> None:
        self._base, self._plan, self._groups, self._ids = base, plan, groups, [*train, *valid]
        self._first_valid, self._ask, self._tell = len(train), before_batch, tell
        self._encoder, self._kept = encoder, None
        self._given, self.stages, self.findings = 0, [], []

    def prepare(self, epoch: int) -> None:
        """Get ready for an epoch, counted from 1: what is frozen in it is computed, if it was not before."""
        prefix = frozen_prefix(self._base, self._plan, self._groups, epoch) if not self.findings else None
        if prefix and self._kept and vars(self._kept.prefix) == vars(prefix):
            return
        self._close()
        if prefix:
            watch = {"before_batch": self._ask, "before_writing": self._tell}
            try:
                self._kept = cache.activations(prefix, self._ids, self._encoder, **watch)
            except FtkitError as error:
                if error.code != "FT060":
                    raise
                self.findings.append(Finding(code=error.code, message=error.message))

    def train(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return training rows as a batch for a `Classifier`."""
        if not self._kept:
            return self._base.batch([self._ids[i] for i in rows])
        self._given += len(rows)
        return self._kept.batch(rows)

    def valid(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return rows of `valid` as a batch for a `Classifier`."""
        return self.train([self._first_valid + i for i in rows])

    def report(self) -> dict[str, Any] | None:
        """Return what was kept and what it saved, as `Run.cache` tells it; None where nothing was."""
        self._close()
        if not self.stages:
            return None
        told = {name: self.stages[0][name] for name in ("depth", "pooled")}  # the deepest: more moves later, not less
        told["digest"] = " ".join(dict.fromkeys(stage["digest"] for stage in self.stages))
        sums = ("n_bytes", "n_built", "built_s", "saved_s")
        return told | {name: sum(stage[name] for stage in self.stages) for name in sums}

    def _close(self) -> None:
        """Write down what a stage did before the next one begins, and let go of it."""
        kept, given = self._kept, self._given
        self._kept, self._given = None, 0
        if kept:
            stage = {"depth": kept.prefix.depth, "pooled": kept.prefix.pooled, "digest": kept.digest}
            stage |= {"n_bytes": kept.prefix.n_bytes(self._ids), "n_built": kept.n_built, "built_s": kept.built_s}
            self.stages.append(stage | {"saved_s": given * kept.text_s - kept.built_s})


def frozen_prefix(base: Base, plan: Plan, groups: Mapping[str, Sequence[str]], epoch: int) -> cache.Prefix | None:
    """Return what an epoch leaves frozen from below, or None if that is no whole block or is not to be kept."""
    movable = plan.movable(groups, epoch)
    below = []
    for group, names in groups.items():
        if movable.intersection(names):
            break
        below.append(group)
    depth = sum(g.startswith("block ") for g in below)
    if not plan.cache or not depth:
        return None
    return cache.Prefix(base=base, depth=depth, pooled=below == [g for g in groups if g != "head"], dtype=plan.dtype)
