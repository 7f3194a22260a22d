"""Pictures are drawn without pyplot, into the axes that are given, and read names as names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from ftkit import display, plots

HISTORY = pd.DataFrame({"epoch": [0, 1, 2], "train_loss": [np.nan, 1.0, 0.5], "valid_loss": [1.1, 0.9, 0.95]})
NAME = r"from US$ to A$ \alpha"  # two dollars: what stands between them would be set as a formula

DRAWN = {
    "bars": lambda **k: plots.bars([NAME, "b"], [1, 2], label=NAME, **k),
    "intervals": lambda **k: plots.intervals([NAME, "b"], [1, 2], [0, 1], [2, 3], label=NAME, reference=0, **k),
    "history": lambda **k: plots.history(HISTORY, best_epoch=1, **k),
    "layers": lambda **k: plots.layers([NAME, "head"], [1_000_000, 51], [False, True], **k),
}


def test_drawing_never_imports_pyplot():
    code = (
        "import sys; from ftkit import display, plots\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib came with the import'\n"
        "display.figure_png(plots.bars(['a'], [1], label='x').figure)\n"
        "plots.layers(['a'], [1], [True]); plots.intervals(['a'], [1], [0], [2], label='x')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", DRAWN)
def test_given_axes_are_used_and_new_ones_made_otherwise(name):
    ax = Figure().add_subplot()
    assert DRAWN[name](ax=ax) is ax
    assert ax.has_data()
    one, other = DRAWN[name](), DRAWN[name]()
    assert one.figure is not other.figure


@pytest.mark.parametrize("name", ["bars", "intervals", "layers"])
def test_a_dollar_in_a_name_is_a_dollar(name):
    ax = DRAWN[name]()
    assert display.figure_png(ax.figure).startswith(b"\x89PNG")
    texts = [*ax.get_yticklabels(), ax.xaxis.label]
    assert any("$" in t.get_text() for t in texts)
    for text in texts:
        shown, is_math = text._preprocess_math(text.get_text())
        assert not is_math, f"{shown!r} would be read as mathematics"


@pytest.mark.parametrize("name", ["bars", "intervals", "history"])
def test_an_axis_says_what_it_measures(name):
    assert DRAWN[name]().get_xlabel()


def test_the_first_bar_is_on_top_and_the_first_layer_at_the_bottom():
    low, high = plots.bars(["first", "second"], [1, 2], label="x").get_ylim()
    assert low > high  # the axis runs downwards
    low, high = plots.layers(["first", "second"], [1, 2], [True, False]).get_ylim()
    assert low < high


def test_what_trains_differs_by_more_than_colour():
    ax = plots.layers(["block 0", "head"], [5, 1], [False, True])
    assert [bool(patch.get_hatch()) for patch in ax.patches] == [False, True]
    assert [t.get_text() for t in ax.texts] == ["frozen", "trains"]


def test_training_and_validation_loss_differ_by_more_than_colour():
    train, valid, kept = plots.history(HISTORY, best_epoch=2).lines
    assert (train.get_linestyle(), train.get_marker()) != (valid.get_linestyle(), valid.get_marker())
    assert list(kept.get_xdata()) == [2, 2]


def test_an_interval_spans_from_its_low_end_to_its_high_end():
    ax = plots.intervals(["a"], [1.5], [1.0], [2.5], label="x", reference=0)
    (line,) = ax.collections[0].get_segments()
    assert line[:, 0].tolist() == [1.0, 2.5]
    assert ax.texts[0].get_text() == "1.5"
