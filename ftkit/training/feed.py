"""Where the loop gets its batches from: tokens, or what the frozen blocks made of them, computed once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ftkit import cache
from ftkit.findings import Finding, FtkitError
from ftkit.forecast.costs import depths
from ftkit.plan import Plan
from ftkit.pretrained import Base


class Feed:
    """The rows of a run as batches: of what frozen blocks made of them, where there are some, or of tokens.

    Parameters
    ----------
    base : Base
    encoder : torch.nn.Module
        Computes what is kept: the base's own, or a copy on another device, frozen as far as that is asked.
    train, valid : lists of token ids
    **watch
        Functions that are called before something is kept, as `cache.activations` takes them.

    Attributes
    ----------
    stages : list of mapping
        What was kept, for each depth in turn.
    findings : list of Finding
        FT060 where there was no room, so that all is computed from the tokens.
    """

    def __init__(
        self, base: Base, encoder: nn.Module, train: list[list[int]], valid: list[list[int]], **watch: Callable
    ) -> None:
        self._base, self._encoder, self._ids, self._first_valid = base, encoder, [*train, *valid], len(train)
        self._watch, self._kept, self._given, self.stages, self.findings = watch, None, 0, [], []

    def prepare(self, prefix: cache.Prefix | None) -> None:
        """Get ready for an epoch: what is frozen in it, if anything, is computed, if it was not before."""
        if prefix and self._kept and vars(self._kept.prefix) == vars(prefix):
            return
        self._close()
        if prefix and not self.findings:
            try:
                self._kept = cache.activations(prefix, self._ids, self._encoder, **self._watch)
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
        sums = ("n_bytes", "n_built", "built_s", "saved_s")
        told = {name: sum(stage[name] for stage in self.stages) for name in sums}
        told["digest"] = " ".join(dict.fromkeys(stage["digest"] for stage in self.stages))
        return self.stages[0] | told  # the first is the deepest: more moves later, not less

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
    stage = [g for g, names in groups.items() if movable.intersection(names)]
    depth, _ = depths(base, stage)
    if not plan.cache or not depth:
        return None
    return cache.Prefix(base=base, depth=depth, pooled=stage == ["head"], dtype=plan.dtype)
