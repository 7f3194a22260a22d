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

RATES = pd.DataFrame({"rate": [1e-4, 1e-3, 1e-2], "loss": [3.0, 2.0, 2.5], "smoothed": [2.9, 2.3, 2.4]})
TRIED = {NAME: ["head", NAME, "head"], "lr": [1e-5, 1e-4, 1e-3], "score": [0.5, 0.7, 0.6]}

DRAWN = {
    "bars": lambda **k: plots.bars([NAME, "b"], [1, 2], label=NAME, **k),
    "intervals": lambda **k: plots.intervals([NAME, "b"], [[1, 0, 2], [2, 1, 3]], label=NAME, reference=0, **k),
    "history": lambda **k: plots.history(HISTORY, best_epoch=1, **k),
    "layers": lambda **k: plots.layers([NAME, "head"], [1_000_000, 51], [False, True], **k),
    "loss_by_rate": lambda **k: plots.loss_by_rate(RATES, marks={"lost": 1e-2}, label="lr", **k),
    "parallel": lambda **k: plots.parallel(TRIED, dashed=[False, True, False], **k),
}


def test_drawing_never_imports_pyplot():
    code = (
        "import sys; from ftkit import display, plots\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib came with the import'\n"
        "display.figure_html(plots.bars(['a'], [1], label='x').figure, 'One bar.')\n"
        "plots.layers(['a'], [1], [True]); plots.intervals(['a'], [[1, 0, 2]], label='x')\n"
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
    assert "data:image/png;base64,iVBORw0KGgo" in display.figure_html(ax.figure, "It can be drawn.")
    texts = [*ax.get_yticklabels(), ax.xaxis.label]
    assert any("$" in t.get_text() for t in texts)
    for text in texts:
        shown, is_math = text._preprocess_math(text.get_text())
        assert not is_math, f"{shown!r} would be read as mathematics"


@pytest.mark.parametrize("name", ["bars", "intervals", "history", "loss_by_rate"])
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
    ax = plots.intervals(["a"], np.array([[1.5, 1.0, 2.5]]), label="x", reference=0)
    (line,) = ax.collections[0].get_segments()
    assert line[:, 0].tolist() == [1.0, 2.5]
    assert ax.texts[0].get_text() == "1.5"


def test_losses_stand_over_a_logarithmic_rate_with_the_marks_named():
    ax = plots.loss_by_rate(RATES, marks={"falls fastest": 1e-3, "lost": 1e-2}, label="lr")
    assert ax.get_xscale() == "log"
    dots, line, *marks = ax.lines
    assert (dots.get_linestyle(), line.get_linestyle()) == ("None", "-")
    assert [mark.get_xdata()[0] for mark in marks] == [1e-3, 1e-2]
    assert len({mark.get_linestyle() for mark in marks}) == 2
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["each step", "smoothed", "falls fastest", "lost"]


def test_parallel_scales_run_from_the_smallest_to_the_largest():
    ax = plots.parallel(TRIED, dashed=[False, True, False])
    *scales, third, second, first = ax.lines
    assert len(scales) == 3 and [t.get_text() for t in ax.get_xticklabels()][1:] == ["lr", "score"]
    assert first.get_ydata() == pytest.approx([0, 0, 0])
    assert second.get_ydata() == pytest.approx([1, 0.5, 1])  # a rate of 1e-4 is half way on a logarithmic scale
    assert third.get_ydata() == pytest.approx([0, 1, 0.5])
    assert first.get_linewidth() > second.get_linewidth() == third.get_linewidth()
    assert [line.get_linestyle() for line in (first, second, third)] == ["-", "--", "-"]
    told = [t.get_text() for t in ax.texts]
    assert {"head", "1e-05", "0.001", "0.5", "0.7"} <= set(told) and "0.6" not in told


def test_parallel_scales_hold_one_value_whatever_there_is_and_a_dollar_is_a_dollar():
    ax = plots.parallel({NAME: [None, NAME], "n": [2, 2], "on": [True, False]}, dashed=[False, False])
    assert "data:image/png;base64,iVBORw0KGgo" in display.figure_html(ax.figure, "It can be drawn.")
    assert {"None", "2", "True", "False"} <= {t.get_text() for t in ax.texts}
    for text in [*ax.texts, *ax.get_xticklabels()]:
        assert not text._preprocess_math(text.get_text())[1], text.get_text()
