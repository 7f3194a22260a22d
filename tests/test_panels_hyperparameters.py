"""The hyperparameter panel trains what is queued and nothing else, one trial after another, and keeps what it found."""

from __future__ import annotations

import gc
import html
import re
import threading
import weakref

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import tiny
from watching import slow, text, until

from ftkit import training
from ftkit.evaluation import evaluate
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.widgets import TrainingPanel
from ftkit.widgets import training as shared
from ftkit.widgets.panel import _PLACES
from panels import hyperparameters as module
from panels.hyperparameters import HyperparameterPanel, Trial, Trials, presets

HOSTILE = "<img src=x onerror='document.title=1'>"
PLAN = Plan(train="top 1", lr=1e-3, epochs=2)
FOUND = {"accuracy": 0.4, "loss": 1.5, "kept epoch": 1, "seconds": 2.0}


@pytest.fixture(autouse=True)
def _a_new_session():
    module._REMEMBERED.clear()
    yield
    for panel in list(_PLACES.values()):
        panel.stop()
        panel.wait(10)


@pytest.fixture
def data():
    return tiny.splits()


def states(panel: HyperparameterPanel) -> list[str]:
    return [trial.state for trial in panel.value.trials]


def choose(panel: HyperparameterPanel, beginning: str) -> None:
    """Choose a setting by how its label begins."""
    (panel.settings.index,) = (i for i, (label, _) in enumerate(panel.settings.options) if label.startswith(beginning))


def column(markup: str, place: int) -> list[str]:
    """The cells of one column of the table."""
    rows = re.findall(r"<tr>(<td.*?)</tr>", markup)
    return [text(re.findall(r"<td.*?</td>", row)[place]) for row in rows]


def within(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    return [w for child in getattr(widget, "children", ()) for w in (child, *within(child))]


def test_the_controls_say_a_plan_and_its_code(base, data):
    panel = HyperparameterPanel(base, data, PLAN.but(clip=2.0))
    assert panel.plan == PLAN.but(clip=2.0), "what has no control is kept"
    panel.fields["lr"].value, panel.fields["batch_size"].value = 3e-3, 8
    panel.fields["warmup"].value, panel.fields["weight_decay"].value = 0.5, 0.1
    panel.fields["train"].value, panel.fields["seed"].value, panel.fields["epochs"].value = "blocks", 4, 3
    changes = {"lr": 3e-3, "batch_size": 8, "warmup": 0.5, "weight_decay": 0.1, "seed": 4, "epochs": 3}
    expected = PLAN.but(clip=2.0, train="blocks", **changes)
    assert panel.plan == expected
    assert panel.code == f"run = ft.fit(base, data, ft.{expected.code()})"
    assert html.escape(panel.code) in panel.shown_code.value


def test_every_rate_on_offer_is_the_given_one_by_a_factor_and_none_is_above_one(base, data):
    panel = HyperparameterPanel(base, data, PLAN.but(lr=0.2, head_lr=1e-3))
    assert panel.fields["head_lr"].options == (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    assert max(panel.fields["lr"].options) == 1.0


def test_a_value_that_no_list_holds_is_offered_too(base, data):
    given = Plan(train=("block 1", "head"), lr=2.345e-4, epochs=5, batch_size=20, seed=99)
    panel = HyperparameterPanel(base, data, given)
    assert panel.plan == given
    assert panel.fields["epochs"].options == (1, 2, 3, 4, 5, 6, 8, 12, 16), "in its place"
    assert panel.fields["train"].options[-1] == ("block 1", "head")


@pytest.mark.parametrize("name", presets(PLAN))
def test_each_preset_sets_the_controls_and_trains_nothing(base, data, name, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *given, **how: pytest.fail("nothing was asked for"))
    panel = HyperparameterPanel(base, data, PLAN)
    choose(panel, "bold")
    choose(panel, name)
    assert panel.plan == presets(PLAN)[name] and not panel.busy and panel.value.trials == ()


def test_presets_are_what_they_say():
    made = {name.split(":")[0]: plan for name, plan in presets(Plan(train="top 1", lr=0.5, batch_size=2)).items()}
    assert made["careful"] == Plan(train="top 1", lr=0.05, head_lr=1e-4, epochs=8, batch_size=2)
    assert made["bold"] == Plan(train="top 1", lr=1.0, head_lr=3e-3, batch_size=2), "no rate above 1"
    assert made["small batches"].batch_size == 1
    assert made["probe only"].train == "head"


def test_what_was_turned_by_hand_is_said_to_be_ones_own(base, data):
    panel = HyperparameterPanel(base, data, PLAN)
    assert panel.settings.label == "as given"
    panel.fields["seed"].value = 3
    assert panel.settings.label == "my own choice"
    panel.fields["seed"].value = 0
    assert panel.settings.label == "as given"


def test_rates_of_single_groups_hold_for_what_moved_as_given(base, data):
    panel = HyperparameterPanel(base, data, Plan(train="top 2", rates={"block 1": 1e-5}))
    assert panel.plan.rates == {"block 1": 1e-5}
    choose(panel, "probe only")
    assert panel.plan == Plan(train="head"), "or no such plan could run (FT056)"


def test_queued_plans_are_listed_and_run_one_after_another_as_fit_runs_them(base, data, monkeypatch):
    panel, ran, fit = HyperparameterPanel(base, data, PLAN), [], training.fit

    def watched(base, data, plan, **how):
        ran.append(plan)
        return fit(base, data, plan, **how)

    monkeypatch.setattr(training, "fit", watched)
    panel.add_button.click()
    choose(panel, "careful")
    panel.add_button.click()
    assert ran == [] and states(panel) == ["queued", "queued"]
    assert "2 queued" in panel.status.value and column(panel._table.value, -1) == ["queued", "queued"]
    panel.start_button.click()
    panel.wait(60)
    assert ran == list(panel.value.plans) == [PLAN, presets(PLAN)[panel.settings.label]]
    assert states(panel) == ["done", "done"]
    run = fit(base, data, PLAN, on_event=None)
    kept, first = run.history[run.best_epoch], panel.value.trials[0].found
    assert (first["accuracy"], first["loss"], first["kept epoch"]) == (
        kept["accuracy"],
        kept["valid_loss"],
        run.best_epoch,
    )
    assert first["seconds"] > 0 and data.test.opened == 0


def test_in_a_cell_what_is_queued_is_run(base, data):
    panel = HyperparameterPanel(base, data, PLAN)
    assert panel.run_blocking().trials == (), "nothing was queued"
    panel.add_button.click()
    trials = panel.run_blocking()
    assert [t.state for t in trials.trials] == ["done"] and not panel.busy


def test_plans_may_be_queued_while_others_run(data):
    panel = HyperparameterPanel(slow(0.01), data, PLAN)
    panel.add_button.click()
    panel.start_button.click()
    until(lambda: states(panel) == ["running"])
    panel.again_button.click()
    assert panel.start_button.disabled and not panel.stop_button.disabled
    panel.wait(60)
    assert states(panel) == ["done", "done"] and [p.seed for p in panel.value.plans] == [0, 1]


def test_stop_ends_the_trial_and_the_queue_waits(data):
    panel = HyperparameterPanel(slow(0.01), data, PLAN.but(epochs=100_000))
    panel.add_button.click()
    panel.again_button.click()
    panel.start_button.click()
    until(lambda: re.search(r"Epoch ([3-9]|\d\d+) of", panel._live.value))
    panel.stop_button.click()
    panel.wait(10)
    assert states(panel) == ["stopped", "queued"] and not panel.busy
    assert panel.value.trials[0].found["accuracy"] > 0, "the best so far is told"
    assert panel.value.best is None, "what was not run to its end is no candidate"
    panel.empty_button.click()
    assert states(panel) == ["stopped"], "only what waits is emptied"


def test_stopped_before_there_is_anything_it_is_kept_as_stopped(data):
    panel = HyperparameterPanel(slow(0.3), data, PLAN)
    panel.add_button.click()
    panel.start_button.click()
    until(lambda: states(panel) == ["running"])
    panel.stop_button.click()
    panel.wait(10)
    assert states(panel) == ["stopped"] and "did not work" not in panel.status.value


def test_an_interrupted_cell_keeps_the_trial_and_leaves_the_rest_waiting(base, data, monkeypatch):
    panel, fit = HyperparameterPanel(base, data, PLAN), training.fit
    panel.add_button.click()
    panel.again_button.click()

    def interrupted(*given, on_event, **how):
        def watch(event):
            if event.step == 2:
                raise KeyboardInterrupt

        return fit(*given, on_event=watch, **how)

    monkeypatch.setattr(training, "fit", interrupted)
    assert [t.state for t in panel.run_blocking().trials] == ["stopped", "queued"]
    monkeypatch.undo()
    assert [t.state for t in panel.run_blocking().trials] == ["stopped", "done"]


def test_what_fails_is_shown_with_its_finding_and_the_queue_goes_on(base, data, monkeypatch):
    panel, fit = HyperparameterPanel(base, data, PLAN), training.fit
    for train in ("block 9", "head"):
        panel._add(PLAN.but(train=train))

    def broken(base, data, plan, **how):
        if plan.seed == 7:
            raise RuntimeError(HOSTILE)
        return fit(base, data, plan, **how)

    monkeypatch.setattr(training, "fit", broken)
    panel._add(PLAN.but(seed=7))
    panel._add(PLAN.but(seed=8))
    panel.start_button.click()
    panel.wait(60)
    assert [state.split(":")[0] for state in states(panel)] == ["failed", "done", "failed", "done"]
    assert "FT051" in states(panel)[0] and "block 9" in text(panel._table.value)
    assert (
        HOSTILE in states(panel)[2] and "<img" not in panel._table.value and html.escape(HOSTILE) in panel._table.value
    )
    assert "2 failed, 2 done" in panel.status.value


def test_a_loss_that_was_lost_is_a_failure_whatever_was_kept(data):
    base = tiny.base()
    base.encoder.embeddings.word_embeddings.weight.data *= 1e30
    panel = HyperparameterPanel(base, data, Plan(train="blocks", lr=1.0, head_lr=1.0, keep="last", epochs=2, clip=1e6))
    panel.add_button.click()
    panel.run_blocking()
    assert states(panel)[0].startswith("failed: FT055 ")
    assert panel.value.best is None


def test_one_trial_trains_at_a_time_whatever_panel_asks(data):
    running = TrainingPanel(slow(0.01), data, PLAN.but(epochs=100_000))
    running.start_button.click()
    until(lambda: "Epoch " in running._live.value)
    panel = HyperparameterPanel(tiny.base(), data, PLAN)
    panel.add_button.click()
    panel.start_button.click()
    until(lambda: "Waiting" in panel.status.value)
    assert running.busy, "its place is another"
    running.stop_button.click()
    panel.wait(30)
    assert states(panel) == ["done"] and not shared._TRAINING.locked()


def test_the_course_of_each_trial_is_shown_as_the_training_panel_shows_it(base, data):
    zeros = tiny.Fixed("all zeros", dict.fromkeys(data.valid.texts, np.eye(3)[0]))
    panel = HyperparameterPanel(base, data, PLAN, baseline=zeros)
    panel.add_button.click()
    panel.run_blocking()
    assert panel._live.value.count("<svg") == 2 and "all zeros" in text(panel._live.value)
    assert "4 steps in" in text(panel._live.value)


def test_a_baseline_must_answer_valid(base, data):
    elsewhere = evaluate(tiny.Fixed("zeros", dict.fromkeys(data.test.texts, np.eye(3)[0])), data.test)
    with pytest.raises(FtkitError, match="FT070"):
        HyperparameterPanel(base, data, PLAN, baseline=elsewhere)


def test_widgets_are_assigned_in_the_thread_but_their_callbacks_do_nothing_there(base, data):
    panel, turned = HyperparameterPanel(base, data, PLAN), []
    panel.add_button.click()
    for control in (panel.settings, *panel.fields.values()):
        control.observe(lambda change: turned.append(threading.current_thread().name))
    panel.start_button.click()
    panel.fields["seed"].value = 5
    panel.wait(60)
    assert set(turned) == {"MainThread"}
    assert panel.plan.seed == 5, "what is turned meanwhile stays"


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("by", ["trial", "differs in", "seed", "kept epoch", "accuracy", "loss", "seconds", "state"])
def test_the_table_can_be_sorted_by_every_column_both_ways(base, data, by, descending):
    panel = HyperparameterPanel(base, data, PLAN.but(monitor="loss"))
    for n, accuracy in enumerate((0.5, 0.9, 0.7), 1):
        found = {"accuracy": accuracy, "loss": 1 - accuracy, "kept epoch": n % 3, "seconds": 10.0 * n}
        panel._trials.append(Trial(PLAN.but(seed=5 - n, monitor="loss", lr=n * 1e-4), "done", found))
    panel.add_button.click()
    assert by in panel.sort_by.options
    panel.sort_by.value, panel.descending.value = by, descending
    place = panel.sort_by.options.index(by)
    shown = [v for v in column(panel._table.value, place) if v]
    values = [v for v in panel.value.frame()[by] if v is not None]
    expected = sorted(values, reverse=descending)
    assert shown == [f"{v:.4g}" if isinstance(v, float) else str(v) for v in expected]
    missing = column(panel._table.value, place)[len(shown) :]
    assert set(missing) <= {""}, "what is not known yet comes last"
    direction = "descending" if descending else "ascending"
    assert f"<caption>Trials by {by}, {direction}" in panel._table.value, "said in words"


def test_a_trial_is_chosen_loaded_and_run_again_with_the_next_seed(base, data):
    panel = HyperparameterPanel(base, data, PLAN)
    choose(panel, "bold")
    bold = panel.plan
    panel.add_button.click()
    panel.run_blocking()
    choose(panel, "as given")
    assert panel.plan == PLAN
    choose(panel, "trial 1")
    assert panel.plan == bold and bold.code() in panel.code
    panel.again_button.click()
    panel.again_button.click()
    assert [p.seed for p in panel.value.plans] == [0, 1, 2] and panel.plan == bold
    assert states(panel) == ["done", "queued", "queued"]


def test_a_later_panel_for_the_same_data_has_the_trials_and_this_one_stops(data):
    base = slow(0.01)
    first = HyperparameterPanel(base, data, PLAN)
    first.add_button.click()
    first.run_blocking()
    first._add(PLAN.but(epochs=100_000))
    first._add(PLAN.but(seed=3))
    first.start_button.click()
    until(lambda: "Epoch " in first._live.value)
    second = HyperparameterPanel(base, data, PLAN.but(lr=2e-3))
    assert not first.busy and first.start_button.disabled and "newer panel" in first.status.value
    assert states(second) == ["done", "stopped", "queued"]
    assert "trial 1: lr=0.001, seed 0" in [label for label, _ in second.settings.options], "from the plan as it is now"
    other = HyperparameterPanel(base, tiny.splits(n_train=30), PLAN)
    assert other.value.trials == (), "other rows, other trials"


def test_no_model_is_kept(base, data, monkeypatch):
    models, fit = [], training.fit

    def watched(*given, **how):
        run = fit(*given, **how)
        models.append(weakref.ref(run.model))
        return run

    monkeypatch.setattr(training, "fit", watched)
    panel = HyperparameterPanel(base, data, PLAN)
    panel.add_button.click()
    panel.again_button.click()
    panel.start_button.click()
    panel.wait(60)
    gc.collect()
    assert [model() for model in models] == [None, None]


def test_it_says_what_luck_does_to_the_best(base, data):
    panel = HyperparameterPanel(base, data, PLAN)
    panel.add_button.click()
    panel.run_blocking()
    assert "looks better" not in panel.status.value, "one was not chosen"
    panel.again_button.click()
    panel.run_blocking()
    assert "chosen for it out of 2, so that it looks better on valid than it is" in panel.status.value
    assert "Test was not opened." in panel.status.value and 'role="status"' in panel.status.value


def test_listeners_get_the_trials(base, data):
    panel, heard = HyperparameterPanel(base, data, PLAN), []
    panel.on_value(heard.append)
    panel.add_button.click()
    panel.again_button.click()
    panel.run_blocking()
    assert [[t.state for t in trials.trials] for trials in heard] == [["done", "queued"], ["done", "done"]]


def test_names_are_text_whatever_they_say(base, data):
    panel = HyperparameterPanel(base, data, Plan(train=("head", HOSTILE)))
    panel.fields["train"].value = "head"
    panel._add(Plan(train=("head", HOSTILE)))
    panel.run_blocking()
    for widget in within(panel.box):
        if isinstance(widget, ipywidgets.HTML) and widget is not panel.style:
            assert "<img src=x" not in widget.value
    assert HOSTILE in states(panel)[0]


def test_every_control_has_a_label(base, data):
    panel = HyperparameterPanel(base, data, PLAN)
    kinds = (ipywidgets.Dropdown, ipywidgets.Checkbox, ipywidgets.Button)
    named = [widget.description for widget in within(panel.box) if isinstance(widget, kinds)]
    assert all(named) and len(set(named)) == len(named) == 16
    assert "ftkit-hyperparameters" in panel.box._dom_classes


def test_without_a_front_end_it_is_the_table_of_trials(base, data):
    panel = HyperparameterPanel(base, data, PLAN)
    panel.add_button.click()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == repr(panel.value) and "queued" in bundle["text/plain"]
    assert "<caption>Trials by trial" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_an_error_in_a_control_is_shown(base, data, monkeypatch):
    panel = HyperparameterPanel(base, data, PLAN)
    monkeypatch.setattr(type(panel), "plan", property(lambda self: 1 / 0))
    panel.add_button.click()
    assert "ZeroDivisionError" in panel.status.value


@pytest.mark.parametrize(("monitor", "best"), [("accuracy", 1), ("loss", 0), ("macro_f1", 2)])
def test_the_best_is_that_of_the_plans_score_among_those_that_are_done(monitor, best):
    scores = [(0.5, 1.0, 0.1), (0.9, 2.0, 0.2), (0.7, 3.0, 0.3), (1.0, 0.1, 1.0)]
    found = [{"accuracy": a, "loss": b, "macro_f1": c, "kept epoch": 1, "seconds": 1.0} for a, b, c in scores]
    ended = [Trial(PLAN.but(seed=n), "done" if n < 3 else "stopped", f) for n, f in enumerate(found)]
    trials = Trials(plan=PLAN.but(monitor=monitor), trials=(*ended, Trial(PLAN)))
    assert trials.best is ended[best]
    assert f"Best on valid: trial {best + 1}, {monitor} {found[best][monitor]:.3f}, chosen" in trials.summary()
    assert trials.plans[-1] == PLAN
    assert list(trials.frame()).count(monitor) == 1


def test_the_frame_holds_numbers_and_what_differs():
    trials = Trials(plan=PLAN, trials=(Trial(PLAN.but(lr=1e-4, seed=2), "done", FOUND), Trial(PLAN)))
    frame = trials.frame()
    assert frame["differs in"].tolist() == ["lr=0.0001", "nothing"] and frame["seed"].tolist() == [2, 0]
    assert frame["accuracy"].tolist() == [0.4, None] and frame["state"].tolist() == ["done", "queued"]
    assert isinstance(Trials(plan=PLAN).frame(), pd.DataFrame) and Trials(plan=PLAN).summary() == "Trials: none yet."
