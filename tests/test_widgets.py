"""What all panels share; and the freeze panel: it shows what its plan means, and writes the plan that it shows."""

from __future__ import annotations

import html
import re
import statistics
import time
from dataclasses import fields

import ipywidgets
import pytest

from ftkit.display import count
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.widgets import FreezePanel
from ftkit.widgets.panel import Panel

HOSTILE = "<img src=x onerror='document.title=1'>"


def shown(panel: Panel) -> str:
    """All HTML in a panel, in its order on the page."""
    parts = [w.value for w in within(panel.box) if isinstance(w, ipywidgets.HTML) and w is not panel.style]
    return "\n".join(parts)


def states(panel: FreezePanel) -> dict[str, str]:
    """What the panel says of each group: its weights, its state."""
    return {g: " ".join(text(panel._weights[g].value + panel._states[g].value).split()) for g in panel.may_move}


def within(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """All widgets inside another, in the order in which Tab reaches them."""
    return [w for child in getattr(widget, "children", ()) for w in (child, *within(child))]


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
        "bias vectors only",
        "norm layers only",
        "my own choice",
    ]
    n_trained = []
    for _, key in panel.depth.options[:5]:
        panel.depth.value = key
        assert panel.value == Plan(train=key)
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
    state = {
        g: f"moves at {'0.002' if g == 'head' else '0.0001'}" if g in preview.trained else "frozen"
        for g in preview.sizes
    }
    assert states(panel) == {g: f"{count(n)} {state[g]}" for g, n in preview.sizes.items()}
    assert {g for g, box in panel.may_move.items() if box.value} == set(preview.trained)


def test_all_weights_are_a_hundred_percent(base, data):
    assert "(100 %)" in shown(FreezePanel(base, data, Plan(train="all")))


def test_the_code_it_shows_makes_its_value(base, data):
    panel = FreezePanel(base, data, Plan(train="top 2", start="probe", seed=3))
    panel.rate.value = 1e-3
    panel.may_move["block 1"].value = False
    panel.rates["block 2"].value = 2e-5
    code = html.unescape(re.search(r"<code>(.*?)</code>", shown(panel))[1])
    assert code == panel.code == f"ft.{panel.value.code()}"
    assert panel.value == Plan(train="top 1", start="probe", seed=3, lr=1e-3, rates={"block 2": 2e-5})
    assert eval(code.removeprefix("ft."), {"Plan": Plan}) == panel.value


def test_each_control_redraws_what_depends_on_it(base, data):
    panel = FreezePanel(base, data)
    changes = (
        (panel.depth, "all"),
        (panel.rate, 1e-3),
        (panel.epochs, 50),
        (panel.decay, 0.8),
        (panel.gradual, True),
        (panel.may_move["block 1"], False),
        (panel.rates["block 0"], 1e-5),
        (panel.rates["head"], 1e-2),
    )
    for control, value in changes:
        before = shown(panel)
        control.value = value
        assert shown(panel) != before
    assert panel.estimate.plan == panel.value


def test_fields_without_a_control_are_kept(base, data):
    start = Plan(train="top 1", start="probe", batch_size=8, rates={"block 2": 3e-5}, seed=7, keep="last")
    panel = FreezePanel(base, data, start)
    assert panel.value == start
    panel.depth.value, panel.epochs.value = "all", 2
    assert panel.value == start.but(train="all", epochs=2)


@pytest.mark.parametrize(
    "start",
    [
        Plan(train=("head", "block 0")),
        Plan(train="top 3"),
        Plan(train="top 1", tensors="norm"),
        Plan(lr=2.5e-4),
        Plan(head_lr=3e-3),
        Plan(epochs=80),
        Plan(train="all", layer_decay=0.77, gradual=True),
    ],
    ids=["train", "another word", "tensors", "lr", "head_lr", "epochs", "layer_decay"],
)
def test_a_start_that_is_not_on_the_list_is_kept(base, data, start):
    assert FreezePanel(base, data, start).value == start


def test_groups_that_have_no_word_are_offered_as_given(base, data):
    panel = FreezePanel(base, data, Plan(train=("head", "block 0")))
    assert panel.depth.label == "as given: head, block 0"
    assert panel.preview.trained == ("block 0", "head")
    panel.depth.value = "head"
    assert panel.depth.options[-1][0] == "as given: head, block 0", "there is a way back"
    panel.may_move["block 0"].value = True
    assert panel.depth.label == "as given: head, block 0"


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
    named = [
        w.description for w in within(panel.box) if hasattr(w, "description") and not isinstance(w, ipywidgets.HTML)
    ]
    layers = ("head", "block 2", "block 1", "block 0", "embeddings")
    assert named == [
        "What may move",
        "Learning rate",
        "Epochs",
        "Layer decay",
        "Gradual unfreezing",
        *(name for g in layers for name in (f"{g} may move", f"Rate of {g}")),
    ]
    assert "ftkit-freeze" in panel.box._dom_classes
    (announced,) = re.findall(r'<p role="status" aria-live="polite">(.*?)</p>', shown(panel))
    assert text(announced).strip().startswith(count(panel.preview.n_trained))


def test_two_panels_do_not_share_a_plan(base, data):
    one, two = FreezePanel(base, data), FreezePanel(base, data)
    one.depth.value = "all"
    assert two.value == Plan(train="top 1")


def test_a_box_is_ticked_and_the_list_says_what_that_is(base, data):
    panel = FreezePanel(base, data, Plan(train="top 1"))
    panel.may_move["block 1"].value = True
    assert (panel.depth.label, panel.value.train) == ("the head and the top 2 of 3 blocks", "top 2")
    panel.may_move["block 2"].value = False
    assert (panel.depth.label, panel.value.train) == ("my own choice", ("block 1", "head"))
    panel.depth.value = "all"
    assert all(box.value for box in panel.may_move.values())
    panel.depth.value = "own"
    assert panel.value.train == tuple(panel.may_move), "one's own choice begins with what was chosen last"


@pytest.mark.parametrize(("key", "tensors"), [("bias", "bias"), ("norm", "norm")])
def test_parts_of_groups_are_counted_as_parts(base, data, key, tensors):
    panel = FreezePanel(base, data)
    panel.depth.value = key
    assert panel.value == Plan(train="all", tensors=tensors)
    preview = panel.preview
    assert 0 < preview.moving["block 0"] < preview.sizes["block 0"]
    told = f"{count(preview.moving['block 0'])} of {count(preview.sizes['block 0'])} moves at 0.0001"
    assert states(panel)["block 0"] == told
    panel.may_move["embeddings"].value = False
    assert (panel.depth.value, panel.value.tensors) == ("own", tensors), "fewer groups, the same part of each"


def test_something_always_moves(base, data):
    panel = FreezePanel(base, data, Plan(train="block 2", start="probe"))
    panel.may_move["block 2"].value = False
    assert panel.value == Plan(train="head", start="probe")


def test_a_head_that_starts_at_zero_has_to_move(base, data):
    assert FreezePanel(base, data, Plan(train="top 1")).may_move["head"].disabled
    probe = FreezePanel(base, data, Plan(train="top 1", start="probe"))
    assert not probe.may_move["head"].disabled
    probe.may_move["head"].value = False
    assert probe.value.train == ("block 2",) and "FT054" not in shown(probe)
    assert "FT054" in shown(FreezePanel(base, data, Plan(train="block 2")))


def test_a_rate_counts_while_its_group_moves(base, data):
    panel = FreezePanel(base, data, Plan(train="top 2", layer_decay=0.5))
    assert states(panel)["block 1"].endswith("moves at 5e-05")
    assert panel.rates["block 0"].disabled and not panel.rates["block 1"].disabled
    panel.rates["block 1"].value = 2e-4
    assert panel.value.rates == {"block 1": 2e-4} and states(panel)["block 1"].endswith("moves at 0.0002")
    panel.may_move["block 1"].value = False
    assert panel.value.rates == {}, "a rate for a frozen group would be refused (FT056)"
    panel.may_move["block 1"].value = True
    assert panel.value.rates == {"block 1": 2e-4}
    panel.rates["head"].value = 5e-3
    assert panel.value.head_lr == 5e-3 and "head" not in panel.value.rates


def test_gradual_unfreezing_says_when_each_group_joins(base, data):
    panel = FreezePanel(base, data, Plan(train="top 2", gradual=True, epochs=3))
    told = states(panel)
    assert told["head"].endswith("moves at 0.001")
    assert told["block 2"].endswith("from epoch 2") and told["block 1"].endswith("from epoch 3")
    panel.gradual.value = False
    assert "from epoch" not in shown(panel)


def test_what_did_not_change_is_not_sent_again(base, data):
    panel, sent = FreezePanel(base, data, Plan(train="top 1")), []
    for widget in within(panel.box):
        widget.observe(lambda change: sent.append((change["owner"], change["name"])), ["value", "disabled"])
    panel.epochs.value += 1
    assert (
        {panel.epochs, panel.shown_code}
        <= {owner for owner, _ in sent}
        <= {
            panel.epochs,
            panel.shown_code,
            panel.status,
        }
    )


class Counting(Panel):
    """The smallest panel: it counts in a thread until it is told to stop."""

    css_class = "ftkit-counting"
    fails: Exception | None = None
    n = 0

    @property
    def value(self):
        return Plan(epochs=max(1, self.n))

    @property
    def code(self):
        return f"count({HOSTILE!r})"

    def count(self):
        while not self.stopping:
            self.n += 1
            if self.fails:
                raise self.fails
            time.sleep(0.001)


def test_work_runs_in_a_thread_until_it_is_stopped():
    panel = Counting("one")
    panel.in_thread(panel.count)
    first = panel._thread
    panel.in_thread(panel.count)
    assert panel.busy and panel._thread is first, "one at a time"
    panel.stop()
    panel.wait(5)
    assert not panel.busy and panel.n
    panel.in_thread(panel.count)
    assert panel.busy, "and again"
    panel.stop()
    panel.wait(5)


def test_a_later_panel_takes_the_place_and_others_are_left_alone():
    first, other, unlike = (
        Counting("two"),
        Counting("three"),
        type("Unlike", (Counting,), {"css_class": "ftkit-x"})("two"),
    )
    for panel in (first, other, unlike):
        panel.in_thread(panel.count)
    Counting("two")
    first.wait(5)
    assert (first.busy, other.busy, unlike.busy) == (False, True, True)
    for panel in (other, unlike):
        panel.stop()
        panel.wait(5)


@pytest.mark.parametrize(
    "error", [ValueError(HOSTILE), FtkitError("FT051", f"there is no {HOSTILE}")], ids=["any", "finding"]
)
def test_what_goes_wrong_in_a_thread_is_shown_as_text(error):
    panel = Counting("four")
    panel.fails = error
    panel.in_thread(panel.count)
    panel.wait(5)
    assert "did not work" in panel.status.value and 'aria-live="polite"' in panel.status.value
    assert "<img" not in panel.status.value and html.escape("<img src=x") in panel.status.value
    assert ("Where it happened" in panel.status.value) == isinstance(error, ValueError)


def test_an_error_in_a_callback_is_shown(base, data, monkeypatch):
    panel = FreezePanel(base, data)
    monkeypatch.setattr(type(panel), "estimate", property(lambda self: 1 / 0))
    panel.depth.value = "all"
    assert "ZeroDivisionError" in panel.status.value


def test_listeners_hear_of_each_value_and_a_broken_one_harms_nobody(base, data):
    panel, heard = FreezePanel(base, data), []
    panel.on_value(lambda plan: 1 / 0)
    panel.on_value(heard.append)
    panel.depth.value = "all"
    assert heard == [Plan(train="all")]


def test_sentences_and_code_are_text():
    panel = Counting("five")
    panel.say(HOSTILE)
    panel.show_code()
    for markup in (panel.status.value, panel.shown_code.value):
        assert "<img" not in markup and "&lt;img" in markup
    assert panel.run_blocking() == panel.value == Plan(epochs=1)
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel.value)
