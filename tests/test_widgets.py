"""The freeze panel shows what its plan means, writes the plan that it shows, and can be read without a front end."""

from __future__ import annotations

import html
import re
import statistics
import time
from dataclasses import fields

import pytest
import tiny

from ftkit.display import count
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.widgets import FreezePanel

HOSTILE = "<img src=x onerror='document.title=1'>"


@pytest.fixture(scope="module")
def base():
    return tiny.base()


@pytest.fixture(scope="module")
def data():
    return tiny.splits()


def shown(panel: FreezePanel) -> str:
    """The HTML below the controls."""
    return panel._box.children[-1].value


def text(markup: str) -> str:
    """What a reader sees of it."""
    return html.unescape(re.sub(r"<[^>]*>", " ", markup))


def test_its_value_is_what_the_controls_show(base, data):
    panel = FreezePanel(base, data)
    assert panel.value == Plan(train="top 1")
    panel.depth.value, panel.rate.value, panel.epochs.value = "top 2", 2e-4, 7
    assert panel.value == Plan(train="top 2", lr=2e-4, epochs=7)


def test_every_depth_is_offered_in_words_and_can_be_planned(base, data):
    panel = FreezePanel(base, data)
    assert [words for words, _ in panel.depth.options] == [
        "the head only",
        "the head and the top 1 of 3 blocks",
        "the head and the top 2 of 3 blocks",
        "the head and all 3 blocks",
        "everything, embeddings too",
    ]
    n_trained = []
    for _, train in panel.depth.options:
        panel.depth.value = train
        n_trained.append(panel.preview.n_trained)
    assert n_trained == sorted(set(n_trained)), "each depth lets more weights move than the one before"


@pytest.mark.parametrize("train", ["head", "top 2", "blocks", "all"])
def test_its_counts_and_states_are_those_of_the_preview(base, data, train):
    panel = FreezePanel(base, data, Plan(train=train, head_lr=2e-3))
    preview = panel.value.preview(base, data.n_classes)
    seen = text(shown(panel))
    share = f"{100 * preview.n_trained / preview.n_total:.3g} %"
    sentence = f"{count(preview.n_trained)} of {count(preview.n_total)} weights may move ({share})"
    assert " ".join(sentence.split()) in " ".join(seen.split())
    rows = [" ".join(text(row).split()) for row in re.findall(r"<tr>(.*?)</tr>", shown(panel))]
    states = {
        g: f"trains at {'0.002' if g == 'head' else '0.0001'}" if g in preview.trained else "frozen"
        for g in preview.sizes
    }
    assert rows[1:] == [f"{g} {count(n)} {states[g]}" for g, n in reversed(preview.sizes.items())]


def test_all_weights_are_a_hundred_percent(base, data):
    assert "(100 %)" in shown(FreezePanel(base, data, Plan(train="all")))


def test_the_code_it_shows_makes_its_value(base, data):
    panel = FreezePanel(base, data, Plan(train="top 2", start="probe", seed=3))
    panel.rate.value = 1e-3
    code = html.unescape(re.search(r"<code>(.*?)</code>", shown(panel))[1])
    assert code == f"ft.{panel.value.code()}"
    assert eval(code.removeprefix("ft."), {"Plan": Plan}) == panel.value


def test_each_control_redraws_what_depends_on_it(base, data):
    panel = FreezePanel(base, data)
    for control, value in ((panel.depth, "all"), (panel.rate, 1e-3), (panel.epochs, 50)):
        before = shown(panel)
        control.value = value
        assert shown(panel) != before
    assert panel.estimate.plan == panel.value


def test_fields_without_a_control_are_kept(base, data):
    start = Plan(train="head", start="probe", batch_size=8, rates={"block 2": 5e-5}, seed=7, keep="last")
    panel = FreezePanel(base, data, start)
    assert panel.value == start
    panel.depth.value, panel.epochs.value = "all", 2
    assert panel.value == start.but(train="all", epochs=2)


@pytest.mark.parametrize(
    "start", [Plan(train=("head", "block 0")), Plan(lr=2.5e-4), Plan(epochs=80)], ids=["train", "lr", "epochs"]
)
def test_a_start_that_is_not_on_the_list_is_kept(base, data, start):
    assert FreezePanel(base, data, start).value == start


def test_groups_that_have_no_word_are_offered_as_given(base, data):
    panel = FreezePanel(base, data, Plan(train=("head", "block 0")))
    assert panel.depth.label == "as given: head, block 0"
    assert panel.preview.trained == ("block 0", "head")
    panel.depth.value = "head"
    assert "as given: head, block 0" in [words for words, _ in panel.depth.options], "there is a way back"


def test_a_group_that_the_model_has_not_is_refused(base, data):
    with pytest.raises(FtkitError, match="FT051"):
        FreezePanel(base, data, Plan(train="block 9"))


def test_names_are_text_whatever_they_say(base, data):
    class Odd(Base):
        @property
        def groups(self):
            return {HOSTILE if g == "embeddings" else g: names for g, names in super().groups.items()}

    odd = Odd(**{f.name: getattr(base, f.name) for f in fields(base) if f.init})
    panel = FreezePanel(odd, data, Plan(train=("head", HOSTILE)))
    assert HOSTILE in panel.depth.label, "an option is text already"
    bundle = panel._repr_mimebundle_()
    for markup in (shown(panel), bundle["text/html"]):
        assert "<img src=x" not in markup
        assert html.escape(HOSTILE) in markup
    assert repr(HOSTILE) in text(shown(panel)), "in the code, too"


def test_a_change_is_drawn_at_once_and_runs_no_model(base, data, monkeypatch):
    panel = FreezePanel(base, data)

    def forward(*args, **kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(base.encoder, "forward", forward)
    took = []
    for value in ("all", "head", "top 1", "blocks", "top 2", "all", "head"):
        began = time.perf_counter()
        panel.depth.value = value
        took.append(time.perf_counter() - began)
    assert statistics.median(took) < 0.150


def test_it_changes_neither_model_nor_data(base, data):
    before = {n: (t.clone(), t.requires_grad) for n, t in base.encoder.named_parameters()}
    panel = FreezePanel(base, data)
    panel.depth.value = "head"
    assert all(
        (before[n][0] == t).all() and before[n][1] == t.requires_grad for n, t in base.encoder.named_parameters()
    )
    assert [rows.opened for rows in data.parts] == [0, 0, 0]


def test_without_a_front_end_it_is_a_table(base, data):
    panel = FreezePanel(base, data, Plan(train="top 2"))
    bundle, preview = panel._repr_mimebundle_(), panel.preview
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(preview)
    assert preview.summary() in text(bundle["text/html"])
    assert "<caption>Groups</caption>" in bundle["text/html"] and '<img alt="' in bundle["text/html"]
    assert "<script" not in bundle["text/html"]


def test_every_control_has_a_label_and_the_sentence_is_announced(base, data):
    panel = FreezePanel(base, data)
    *controls, _ = panel._box.children
    assert [c.description for c in controls] == ["What may move", "Learning rate", "Epochs"]
    assert "ftkit-freeze" in panel._box._dom_classes
    (announced,) = re.findall(r'<p role="status" aria-live="polite">(.*?)</p>', shown(panel))
    assert text(announced).strip().startswith(count(panel.preview.n_trained))
    assert "<caption" in shown(panel) and shown(panel).count('scope="row"') == len(panel.preview.sizes)


def test_two_panels_do_not_share_a_plan(base, data):
    one, two = FreezePanel(base, data), FreezePanel(base, data)
    one.depth.value = "all"
    assert two.value == Plan(train="top 1")
