"""Parameter-efficient methods: pretrained tensors stay as they are, and a few new ones beside them move (lesson 07).

`lora`, `rslora`, `dora`: a product of two thin matrices beside those that make queries and values.
    BERT, RoBERTa, ELECTRA: `query`, `value`. DistilBERT: `q_lin`, `v_lin`. ModernBERT: `Wqkv`, which makes keys, too.
`ia3`: a factor for each number of keys and values, and of what enters the feed-forward's last layer.
    BERT, RoBERTa, ELECTRA: `key`, `value`, `output.dense`, a name that attention's last layer has, too. DistilBERT:
    `k_lin`, `v_lin`, `ffn.lin2`. ModernBERT: `Wqkv`, which makes queries, too, and `mlp.Wo`.
`adapter`: after attention and after the feed-forward two small layers, whose result is added to what enters them.
    BERT, RoBERTa, ELECTRA: both `output.dense`. DistilBERT: `out_lin`, `ffn.lin2`. ModernBERT: `attn.Wo`, `mlp.Wo`.
`prefix`: keys and values of no token, which every token may look at. BERT, RoBERTa, ELECTRA; others have no place.

For `lora` and its kin and for `ia3`, PEFT's own list counts where it has the architecture; other architectures are
searched for the names above. All but `prefix` start as nothing: before its first step an encoder answers as its base
does. A prefix starts at random, as it would never learn if all of it were alike.

Notes
-----
LoRA: E. Hu et al. (ICLR 2022). rsLoRA, LoRA scaled by the root of its rank: D. Kalajdzievski (arXiv:2312.03732, 2023).
DoRA, LoRA with a length for each row: S.-Y. Liu et al. (ICML 2024). (IA)³: H. Liu et al. (NeurIPS 2022). Adapters:
N. Houlsby et al. (ICML 2019); theirs also move the norm layers, which stay frozen here. Prefix: X. L. Li and P. Liang
(ACL 2021), in every layer as X. Liu et al. (ACL 2022).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ftkit.display import record
from ftkit.findings import FtkitError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ftkit.tasks import Classifier

__all__ = ["METHODS", "Method", "adapter_state", "attach", "merge", "plain", "register", "start"]

_QUERY_VALUE = ("query", "value", "q_lin", "v_lin", "Wqkv")
_KEY_VALUE = ("key", "value", "k_lin", "v_lin", "Wqkv")
_LAST = ("output.dense", "ffn.lin2", "mlp.Wo")


@record
class Method:
    """A way to train few weights.

    Parameters
    ----------
    title : str
        Its name in words; `{rank}` stands for the plan's.
    adds : str
        How the names of the new tensors begin; no pretrained tensor's name has such a part.
    inject : function of an encoder, a plan, and a function that finds modules
        Puts the new tensors into an encoder, in place. The third one turns ends of module names into the full names
        of those in the blocks that train.
    uses : tuple of str
        Which of the plan's `rank` and `alpha` it reads.
    """

    title: str
    adds: str
    inject: Callable[[nn.Module, Any, Callable[[Iterable[str]], list[str]]], None]
    uses: tuple[str, ...] = ()


METHODS: dict[str, Method | None] = {"full": None}


def register(name: str, **parts: Any) -> None:
    """Make a method known under the name that `Plan.method` calls it by; `parts` are those of a `Method`."""
    METHODS[name] = Method(**parts)


def attach(encoder: nn.Module, plan: Any) -> None:
    """Put the new tensors of a plan's method into the blocks that it trains, in place; `"full"` has none.

    Names stay the encoder's own, so each new tensor belongs to its block's group; a wrapped layer's are one step
    deeper (`query.base_layer.weight`). `plan.seed` alone decides the new tensors: what chance did before is no matter.

    Parameters
    ----------
    encoder : torch.nn.Module
        A copy of one's own.
    plan : Plan

    Raises
    ------
    FtkitError
        FT067, if no block trains, or the modules of this architecture are not known; FT051 as `Plan.resolve` does.
    """
    import torch

    from ftkit.pretrained import group_parameters

    if not (method := METHODS[plan.method]):
        return
    groups = group_parameters(encoder)
    blocks = [g for g in plan.resolve([*groups, "head"]) if g.startswith("block ")]
    inside = {name for g in blocks for name in groups[g]}

    def find(ends: Iterable[str]) -> list[str]:
        ends = tuple(f".{end}" for end in ends)
        found = [n for n, _ in encoder.named_modules() if n.endswith(ends) and f"{n}.weight" in inside]
        if not found:
            where = f"Plan.train={plan.train!r} ({', '.join(blocks) or 'no block'} of this {encoder.config.model_type})"
            names = ", ".join(end[1:] for end in ends)
            raise FtkitError("FT067", f"Plan.method={plan.method!r} goes into {names}; there are none in {where}.")
        return found

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        method.inject(encoder, plan, find)
    encoder.__dict__.pop("peft_config", None)  # PEFT's note for files of its own, which nothing here writes


def start(encoder: nn.Module, plan: Any) -> nn.Module:
    """Return an encoder as a run of the plan begins with it: pretrained tensors are shared with it, not copied.

    Parameters
    ----------
    encoder : torch.nn.Module
        A base's; it is only read.
    plan : Plan
    """
    from torch import nn

    if not METHODS[plan.method]:
        return encoder
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in encoder.parameters()}
    begun = copy.deepcopy(encoder, shared | {id(b): b for b in encoder.buffers()})
    attach(begun, plan)
    return begun


def plain(name: str) -> str:
    """Return the name that a tensor has in the base.

    >>> plain("encoder.layer.5.attention.self.query.base_layer.weight")
    'encoder.layer.5.attention.self.query.weight'
    """
    return name.replace(".base_layer.", ".")


def is_new(name: str) -> bool:
    """Return whether a tensor came with a method, and is not pretrained."""
    return any(f".{method.adds}" in name for method in METHODS.values() if method)


def merge(model: Classifier) -> nn.Module:
    """Return a copy of a tuned model's encoder with what was learned beside the weights folded into them.

    It has the base's modules and names, needs no method any more, and answers as fast as the base does.

    Raises
    ------
    FtkitError
        FT068, if the method cannot be folded into weights; FT069, if there is nothing to fold.
    """
    adapter_state(model)
    encoder = copy.deepcopy(model.encoder)
    for name, module in [(n, m) for n, m in encoder.named_modules() if hasattr(m, "base_layer")]:
        if not hasattr(module, "merge"):
            raise FtkitError("FT068", f"encoder.{name} is followed by a {type(module).__name__}.")
        module.merge()
        _put(encoder, name, module.base_layer)
    return encoder


def adapter_state(model: Classifier) -> dict[str, torch.Tensor]:
    """Return copies of the tensors that a method added, and of the head's: with the base, all there is to keep.

    To have the tuned model again, `attach` the plan's method to a copy of the base, and load them with
    `load_state_dict(…, strict=False)`.

    Raises
    ------
    FtkitError
        FT069, if no method added anything.
    """
    every = {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith("head.") or is_new(n)}
    if not any(map(is_new, every)):
        raise FtkitError("FT069", "All tensors of this encoder are named as in the base.")
    return every


def _put(encoder: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(encoder.get_submodule(parent), last, module)


def _lora(encoder: nn.Module, plan: Any, find: Callable, **variant: bool) -> None:
    import peft

    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    places = find(known.get(encoder.config.model_type, _QUERY_VALUE))
    config = peft.LoraConfig(r=plan.rank, lora_alpha=plan.alpha, target_modules=places, **variant)
    peft.inject_adapter_in_model(config, encoder)


def _ia3(encoder: nn.Module, plan: Any, find: Callable) -> None:
    import peft

    known, kind = peft.utils, encoder.config.model_type
    places = find(known.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(kind, (*_KEY_VALUE, *_LAST)))
    last = find(known.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(kind, _LAST))
    peft.inject_adapter_in_model(peft.IA3Config(target_modules=places, feedforward_modules=last), encoder)


def _bottleneck(encoder: nn.Module, plan: Any, find: Callable) -> None:
    from ftkit.methods.modules import Bottleneck

    for name in find((*_LAST, "out_lin", "attn.Wo")):
        _put(encoder, name, Bottleneck(encoder.get_submodule(name), plan.rank))


def _prefix(encoder: nn.Module, plan: Any, find: Callable) -> None:
    from ftkit.methods.modules import Prefixed

    for query in find(("attention.self.query",)):
        name = query.removesuffix(".query")
        width = encoder.get_submodule(query).out_features
        _put(encoder, name, Prefixed(encoder.get_submodule(name), width, plan.rank))


_BOTH = {"adds": "lora_", "uses": ("rank", "alpha")}
register("lora", title="LoRA of rank {rank}", inject=_lora, **_BOTH)
register("rslora", title="rsLoRA of rank {rank}", inject=functools.partial(_lora, use_rslora=True), **_BOTH)
register("dora", title="DoRA of rank {rank}", inject=functools.partial(_lora, use_dora=True), **_BOTH)
register("ia3", title="(IA)³", inject=_ia3, adds="ia3_")
register("adapter", title="adapters of width {rank}", inject=_bottleneck, adds="bottleneck_", uses=("rank",))
register("prefix", title="a prefix of {rank}", inject=_prefix, adds="prefix_", uses=("rank",))
