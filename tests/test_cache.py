"""The cache of frozen blocks: the same answers, whoever asks first; damage and a lack of room are noticed."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tiny
import torch

from ftkit import sources, tasks
from ftkit.cache import Prefix, activations, missing
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.training import fit
from ftkit.training.steps import frozen_prefix

DEPTHS = [(1, False), (2, False), (3, False), (3, True)]


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty cache."""
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("ftkit.cache.cache_root", sources.cache_root)
    return tmp_path / "activations"


@functools.cache
def base(architecture="bert"):
    return tiny.base(architecture)


def ids(n=60, *, architecture="bert"):
    return base(architecture).tokenize(tiny.splits(n_train=n).train.texts)


def prefix(depth=2, pooled=False, dtype="float32", architecture="bert"):
    return Prefix(base=base(architecture), depth=depth, pooled=pooled, dtype=dtype)


def all_of(kept):
    return kept.batch(range(len(kept.entries)))


@pytest.mark.parametrize(("depth", "pooled"), DEPTHS)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_logits_are_those_of_the_whole_model(architecture, depth, pooled):
    model, tokens = tasks.Classifier(base(architecture), 3).eval(), ids(architecture=architecture)
    torch.nn.init.normal_(model.head.weight)
    kept = activations(prefix(depth, pooled, architecture=architecture), tokens)
    rows = range(5, 25)
    with torch.inference_mode():
        whole, upper = model(base(architecture).batch([tokens[i] for i in rows])), model(kept.batch(rows))
    assert torch.allclose(whole, upper, atol=1e-5, rtol=0)
    assert whole.std() > 0.01, "an answer of zeros would prove nothing"


def test_the_bits_do_not_depend_on_who_asked_first(monkeypatch, tmp_path):
    whole = activations(prefix(), ids())
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "other"))
    for part in (ids()[40:], ids()[:7], ids()[3:50]):
        activations(prefix(), part)
    pieces = activations(prefix(), ids())
    assert (whole.n_built, pieces.n_built) == (60, 0)
    assert pieces.digest == whole.digest
    assert torch.equal(all_of(whole)["hidden"], all_of(pieces)["hidden"])
    assert activations(prefix(), ids()[::-1]).digest != whole.digest, "the order of the rows is theirs"


def test_every_text_is_computed_once_and_found_again_by_another_process(folder):
    first = activations(prefix(), [*ids(), *ids()])
    assert first.n_built == 60 and len(first.entries) == 120
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_cache as t\n"
        "kept = t.activations(t.prefix(), t.ids()); print(kept.n_built, kept.digest)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", activations(prefix(), ids()).digest]


def test_weights_depth_dtype_and_vectors_are_kept_apart(folder):
    other = tiny.base()
    with torch.no_grad():
        next(iter(other.encoder.parameters())).add_(1e-3)
    folders = {prefix(d, p, dtype).folder for d, p in DEPTHS for dtype in ("float32", "bfloat16")}
    folders.add(Prefix(base=other, depth=2, pooled=False, dtype="float32").folder)
    assert len(folders) == 9
    above_only = tiny.base()
    with torch.no_grad():
        above_only.encoder.encoder.layer[2].output.dense.weight.add_(1.0)
    shared = Prefix(base=above_only, depth=2, pooled=False, dtype="float32")
    assert shared.folder == prefix().folder, "what lies above the frozen blocks does not change what they answer"


def test_sixteen_bits_are_kept_for_bfloat16():
    small, large = (activations(prefix(dtype=dtype), ids()) for dtype in ("bfloat16", "float32"))
    assert small.prefix.n_bytes(ids()) * 2 == large.prefix.n_bytes(ids())
    assert torch.allclose(all_of(small)["hidden"], all_of(large)["hidden"], atol=0.05)


def test_what_it_takes_on_disk_is_told_before_it_is_written(folder):
    told = []
    activations(prefix(), ids(), before_writing=lambda *told_: told.append((*told_, _written(folder))))
    ((n_texts, n_bytes, written),) = told
    assert (n_texts, written) == (60, 0)
    (data,) = folder.rglob("numbers")
    assert data.stat().st_size == n_bytes


def _written(folder):
    """How many bytes lie in the cache."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "index flip", "index cut", "index reversed"])
def test_damage_is_noticed_and_computed_again(folder, harm):
    whole = activations(prefix(), ids())
    digest, hidden = whole.digest, all_of(whole)["hidden"].clone()
    del whole
    (data,), (index,) = folder.rglob("numbers"), folder.rglob("index.npz")
    path = index if harm.startswith("index") else data
    if harm.endswith("flip"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm.endswith("cut"):
        os.truncate(path, path.stat().st_size - 40)
    elif harm == "index reversed":
        path.write_bytes(path.read_bytes()[::-1])
    else:
        path.unlink()
    assert (len(missing(prefix(), ids())) == 60) == harm.startswith("index"), "a forecast goes on"
    with pytest.warns(UserWarning, match="FT065"):
        again = activations(prefix(), ids())
    assert (again.n_built, again.digest) == (60, digest)
    assert torch.equal(all_of(again)["hidden"], hidden)
    assert activations(prefix(), ids()).n_built == 0


def test_whatever_byte_of_the_index_is_damaged_no_number_is_mistaken_for_another(folder):
    whole, rng = activations(prefix(), ids()[:12]), np.random.default_rng(0)
    ((index, data),) = ((path, path.with_name("numbers")) for path in folder.rglob("index.npz"))
    good, numbers = index.read_bytes(), data.read_bytes()
    for at in rng.integers(0, len(good), 40):
        spoilt = bytearray(good)
        spoilt[at] ^= 1 << int(rng.integers(8))
        index.write_bytes(spoilt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again = activations(prefix(), ids()[:12])
        assert again.digest == whole.digest, at
        assert torch.equal(all_of(again)["hidden"], all_of(whole)["hidden"]), at
        data.unlink()
        data.write_bytes(numbers)


def test_what_is_mapped_stays_as_it_was_whatever_others_do(folder):
    early = activations(prefix(), ids()[:20])
    hidden = all_of(early)["hidden"].clone()
    activations(prefix(), ids())
    assert torch.equal(all_of(early)["hidden"], hidden), "more was written behind it"
    (index,) = folder.rglob("index.npz")
    index.write_bytes(b"")
    with pytest.warns(UserWarning, match="FT065"):
        activations(prefix(), ids()[::-1])
    assert torch.equal(all_of(early)["hidden"], hidden), "all was written anew"


def test_nothing_pickled_is_read(folder):
    activations(prefix(), ids())
    (index,) = folder.rglob("index.npz")
    np.savez(index, entries=np.array([{"a": 1}], dtype=object))
    with pytest.warns(UserWarning, match="FT065"):
        assert activations(prefix(), ids()).n_built == 60


def test_stopped_in_the_middle_nothing_half_written_is_kept(folder):
    asked = []

    def stop():
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        activations(prefix(), ids(), before_batch=stop)
    assert _written(folder) == 0


def test_killed_in_the_middle_the_next_one_starts_clean(folder, monkeypatch):
    code = (
        "import sys, os, signal; sys.path.insert(0, 'tests'); import test_cache as t; asked = []\n"
        "def stop():\n    asked.append(1)\n    if len(asked) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.activations(t.prefix(), t.ids(), before_batch=stop)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert _written(folder) == prefix().n_bytes(ids()), "the killed process left its work"
    monkeypatch.setenv("FTKIT_CACHE_BYTES", str(prefix().n_bytes(ids()) + 1))  # no room for what it left
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert activations(prefix(), ids()).n_built == 60
    (data,) = folder.rglob("numbers")
    assert data.stat().st_size == prefix().n_bytes(ids())


def _ask(numbers):
    return activations(prefix(), [ids()[i] for i in numbers]).n_built


def test_two_processes_do_not_collide():
    ids(), prefix().folder
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        built = pool.map(_ask, [range(40), range(20, 60)], chunksize=1)
    assert sum(built) == 60, "what both needed, one computed"


def test_the_least_recently_used_goes_first(folder, monkeypatch):
    sizes = [prefix(d).n_bytes(ids()) for d in (1, 2, 3)]
    for depth in (1, 2):
        activations(prefix(depth), ids())
    os.utime(prefix(1).folder, (2e9, 2e9))
    monkeypatch.setenv("FTKIT_CACHE_BYTES", str(sum(sizes) - sizes[1] + 10_000))
    activations(prefix(3), ids())
    left = {f.name for f in folder.iterdir() if f.is_dir()}
    assert left == {prefix(1).folder.name, prefix(3).folder.name}


def test_no_room_is_said_and_the_run_goes_on_without(monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE_BYTES", "1000")
    with pytest.raises(FtkitError, match=r"FT060.*limit of 1"):
        activations(prefix(), ids())
    plan, data = Plan(train="top 1", epochs=2), tiny.splits()
    run = fit(base(), data, plan, on_event=None)
    assert [f.code for f in run.findings] == ["FT060"] and run.cache is None
    assert run.weights_sha256 == fit(base(), data, plan.but(cache=False), on_event=None).weights_sha256


def test_a_folder_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(FtkitError, match="FT060"):
        activations(prefix(), ids())


def test_memory_does_not_hold_the_activations():
    assert isinstance(activations(prefix(), ids()).numbers, np.memmap)


@pytest.mark.parametrize("train", ["head", "top 1", "top 2", ("block 2", "head")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_learns_the_same_with_and_without(train, dtype):
    data, plan = tiny.splits(), Plan(train=train, epochs=3, lr=1e-3, dtype=dtype)
    with_, without = fit(base(), data, plan, on_event=None), fit(base(), data, plan.but(cache=False), on_event=None)
    assert with_.cache["depth"] == frozen_prefix(base(), plan, tasks.classifier_groups(base()), 1).depth
    assert without.cache is None
    assert np.allclose(with_.losses, without.losses, atol=1e-5 if dtype == "float32" else 2e-2)
    assert fit(base(), data, plan, on_event=None).weights_sha256 == with_.weights_sha256, "warm or cold, the same bits"


def test_gradual_unfreezing_keeps_less_with_every_epoch():
    plan = Plan(train="top 2", gradual=True, epochs=3)
    groups = tasks.classifier_groups(base())
    prefixes = [frozen_prefix(base(), plan, groups, epoch) for epoch in (1, 2, 3)]
    places = [(prefix.depth, prefix.pooled) for prefix in prefixes]
    assert places == [(3, True), (2, False), (1, False)]
    run = fit(base(), tiny.splits(), plan, on_event=None)
    assert run.cache["depth"] == 3 and len(run.cache["digest"].split()) == 3
    without = fit(base(), tiny.splits(), plan.but(cache=False), on_event=None)
    assert np.allclose(run.losses, without.losses, atol=1e-5)


@pytest.mark.parametrize("plan", [Plan(train="all"), Plan(train="blocks"), Plan(train="top 1", cache=False)])
def test_nothing_is_kept_where_nothing_below_is_frozen_or_asked_for(plan, folder):
    assert frozen_prefix(base(), plan, tasks.classifier_groups(base()), 1) is None
    assert fit(base(), tiny.splits(), plan.but(epochs=1), on_event=None).cache is None
    assert not folder.exists()


def test_biases_of_all_blocks_leave_no_whole_block_frozen():
    plan = Plan(train="blocks", tensors="bias")
    assert frozen_prefix(base(), plan, tasks.classifier_groups(base()), 1) is None


def test_a_run_says_what_was_kept_and_what_that_saved():
    events, plan = [], Plan(train="top 1", epochs=2)
    cold = fit(base(), tiny.splits(), plan, on_event=events.append)
    warm = fit(base(), tiny.splits(), plan.but(seed=1), on_event=events.append)
    told = [e.values for e in events if e.kind == "cache"]
    assert told == [{"n_texts": 90, "n_bytes": cold.cache["n_bytes"]}], "once, before the first run"
    assert (cold.cache["n_built"], warm.cache["n_built"]) == (90, 0)
    assert warm.cache["digest"] == cold.cache["digest"]
    assert warm.cache["saved_s"] > cold.cache["saved_s"]


def test_what_was_saved_is_read_times_the_time_of_a_text(folder):
    fit(base(), tiny.splits(), Plan(train="top 1", epochs=1), on_event=None)
    for index in folder.rglob("index.npz"):
        with np.load(index) as told:
            entries = told["entries"]
        entries["took_s"] = 0.5
        np.savez(index, entries=entries)
    run = fit(base(), tiny.splits(), Plan(train="top 1", epochs=2), on_event=None)
    n_read = 2 * 60 + 3 * 30  # train twice; valid at the start and after each epoch
    assert run.cache["saved_s"] == pytest.approx(0.5 * n_read, abs=0.2)
    assert "saved about 105 s" in run.summary()


def test_an_encoder_whose_numbers_pass_sixteen_bits_is_not_kept():
    huge = tiny.base()
    with torch.no_grad():
        huge.encoder.encoder.layer[0].output.LayerNorm.weight.fill_(1e6)
    with pytest.raises(FtkitError, match=r"FT060.*float16"):
        activations(Prefix(base=huge, depth=1, pooled=False, dtype="bfloat16"), ids())
