"""Every record shows itself as text and as HTML, with captions and alt texts, and lets nobody's markup through."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import tiny

from ftkit import display
from ftkit.display import Record

BAD = "<img src=x onerror=alert(1)>"
CORE = [
    "findings", "data.rows", "data.splits", "pretrained.base", "pretrained.pieces", "pretrained.looking", "evaluation",
    "baseline", "plan", "record", "forecast", "report",
]  # fmt: skip


def _poisoned(rows):
    n = len(rows)
    return dataclasses.replace(
        rows,
        texts=tuple(f"{BAD} {t}" for t in rows.texts),
        label_names=tuple(f"{BAD} {n}" for n in rows.label_names),
        groups=tuple(f"{BAD} {g}" for g in rows.groups),
        ids=tuple(f"{BAD} {rows.name} {i}" for i in range(n)),
        source=BAD,
    )


@functools.cache
def records() -> dict[str, tuple[Record, str]]:
    """Every record of the core with `BAD` wherever a name, label or text can stand; and a number it must tell."""
    from ftkit import baseline, evaluation, findings, pretrained, report, training
    from ftkit.data import Card, Splits
    from ftkit.forecast import Estimate, Estimates
    from ftkit.plan import Plan, Preview
    from ftkit.pretrained.pieces import Piece, Tokens
    from ftkit.record import Recipe
    from ftkit.report import Curve

    clean = tiny.splits(grouped=True)
    finding = findings.Finding(code="FT061", message=f"{BAD} in row 17")
    parts = {name: _poisoned(getattr(clean, name)) for name in ("train", "valid", "test")}
    data = Splits(name=BAD, findings=(finding,), **parts)
    base = dataclasses.replace(tiny.base(), name=BAD, origin=BAD)
    plan = Plan(train="top 1", lr=1e-2, epochs=1)
    run = dataclasses.replace(training.fit(base, data, plan, on_event=None), stopped=BAD, findings=(finding,))
    before = evaluation.evaluate(baseline.majority(data), data.test, name=f"majority {BAD}")
    after = evaluation.evaluate(run, data.test, name=f"tuned {BAD}")
    multiple = dataclasses.replace(tiny.rows("test", 6, seed=0, kind="multiple"), label_names=(BAD, "b", "c"))
    many = evaluation.Evaluation(name=BAD, proba=np.full((1, 6, 3), 0.7), rows=multiple)
    broken = ((Piece(BAD, 0, 0, 5, False), Piece(BAD, 0, 5, len(BAD), True)),)
    changed = pd.DataFrame([(BAD, BAD, BAD, BAD, 0.5)], columns=["text", "label", "before", "after", "confidence"])
    card = Card(name=BAD, title=BAD, task=BAD, source=BAD, licence=BAD, counts={BAD: 1234, "b": 7}, grouped_by=BAD)
    estimate = Estimate(plan=plan.but(train=BAD), train_s=42.4, peak_bytes=501_000_000)
    scores = np.array([[0.5], [0.75]])
    curve = Curve(values=(BAD, "b"), seeds=(0,), scores=scores, seconds=scores, x_label=BAD, scored_on=BAD)
    explained = dict(title=BAD, cause=BAD, consequence=BAD, fix=BAD)
    return {
        "Rows": (data.test, "30 test rows"),
        "Splits": (data, "60 train"),
        "Base": (base, f"{base.n_parameters:,}"),
        "Tokens": (Tokens(texts=(BAD,), pieces=broken, max_tokens=7), "1 word in 1 text make 2 pieces"),
        "Nearest": (pretrained.nearest(base, BAD, data.test), "30 texts"),
        "Trace": (pretrained.trace(base, f"{BAD} heart"), "16"),
        "BlockProbes": (baseline.probe_blocks(base, data), "30 valid rows"),
        "Plan": (plan.but(train=(BAD,), rates={BAD: 0.25}), "0.25"),
        "Preview": (
            Preview(
                plan=plan.but(train=(BAD,)),
                sizes={BAD: 1234, "head": 51},
                moving={BAD: 1234, "head": 0},
                rates={BAD: 1e-4},
            ),
            "1,234 of 1,285",
        ),
        "Card": (card, "1,241"),
        "Estimate": (estimate, "42 s"),
        "Estimates": (Estimates(estimates=(estimate,), n_trained=(1234,)), "1,234"),
        "Curve": (curve, "75.0 %"),
        "Recipe": (Recipe(data={"source": BAD, "per_class": 1234}, plan=plan, base={"name": BAD}), "1234"),
        "Run": (run, f"{run.history[1]['valid_loss']:.3f}"),
        "Evaluation": (after, f"{after.accuracy:.3f}"),
        "Evaluation of multiple labels": (many, f"{many.macro_f1:.3f}"),
        "Comparison": (report.compare(before, after), f"{before.macro_f1:.3f}"),
        "Changed": (report.Changed(to="right", n_all=17, rows=changed), "17"),
        "Scoreboard": (report.scoreboard(before, after), f"{100 * before.accuracy:.1f}"),
        "Predictions": (run.predict([BAD, "heart of the left"]), display.percent(run.predict_proba([BAD]).max())),
        "Baseline": (baseline.Baseline(name=BAD, predict_proba=len, note=f"always answers {BAD!r}, C = 10."), "10"),
        "Finding": (finding, "17"),
        "Explanation": (findings.Explanation(code="FT061", **explained), "FT061"),
    }


NAMES = [
    "Rows", "Splits", "Base", "Tokens", "Nearest", "Trace", "BlockProbes", "Plan", "Preview", "Card", "Estimate",
    "Estimates", "Curve", "Recipe", "Run",
    "Evaluation", "Evaluation of multiple labels",
    "Comparison", "Changed", "Scoreboard", "Predictions", "Baseline", "Finding", "Explanation",
]  # fmt: skip


class Page(HTMLParser):
    """Collects what a browser would make of a record: tags, attributes, captions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.captions: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        if self.tags and self.tags[-1][0] == "caption":
            self.captions.append(text)

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_no_record_of_the_core_is_left_out_here():
    classes = {
        value
        for stem in CORE
        for value in vars(importlib.import_module(f"ftkit.{stem}")).values()
        if isinstance(value, type) and issubclass(value, Record) and value is not Record
    }
    assert {type(shown) for shown, _ in records().values()} == classes
    assert list(records()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_names_labels_and_texts_stays_text(name):
    shown, _ = records()[name]
    page = Page(shown._repr_html_())
    assert display.escape(BAD)[:20] in shown._repr_html_()  # the poison is there, disarmed
    assert all(a.get("src", "").startswith("data:image/png;base64,") for a in page.of("img"))
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert {tag for tag, _ in page.tags} <= set("style div p small span table caption thead tbody tr th td img".split())


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_shown_as_text_and_as_html(name):
    shown, number = records()[name]
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == repr(shown)
    assert shown.summary().strip() and not shown.summary().startswith(type(shown).__name__ + " object")
    assert number in repr(shown)


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_has_words_and_every_table_a_caption(name):
    shown, _ = records()[name]
    page = Page(shown._repr_html_())
    assert len(page.of("img")) == (shown.picture() is not None)
    assert all(a["alt"].strip() for a in page.of("img"))
    assert len(page.captions) == len(page.of("table")) == len(shown.tables())
    assert all(c.strip() for c in page.captions)


@pytest.mark.parametrize("name", NAMES)
def test_showing_a_record_twice_shows_the_same(name):
    shown, _ = records()[name]
    assert shown._repr_html_() == shown._repr_html_()
    assert isinstance(shown.frame(), pd.DataFrame)


@pytest.mark.parametrize("name", NAMES)
def test_records_are_frozen(name):
    shown, _ = records()[name]
    field = dataclasses.fields(shown)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(shown, field, None)


def test_tables_escape_captions_headings_and_values():
    text = display.table_html(pd.DataFrame({BAD: [BAD, 1.5]}), BAD)
    assert BAD not in text
    assert text.count("&lt;img") == 3


def test_numbers_stand_to_the_right_and_words_to_the_left():
    text = display.table_text(pd.DataFrame({"name": ["a", "long one"], "n": ["5", "1,234"]}), "Caption")
    assert text == "Caption\n  name          n\n  a             5\n  long one  1,234"


@pytest.mark.parametrize("figure", [3, "1,234", "-0.5", "+4.4 %", "64 (now)", "121 of 582 train rows", ".5"])
def test_a_figure_stands_to_the_right(figure):
    assert 'class="n"' in display.table_html(pd.DataFrame({"n": [figure]}), "Caption")


@pytest.mark.parametrize("words", ["", "- a point", "----- header", "148 of 311 are in two or three.", "block 3"])
def test_a_sentence_that_begins_with_a_figure_stands_to_the_left(words):
    assert 'class="n"' not in display.table_html(pd.DataFrame({"n": [words]}), "Caption")


def test_alt_text_cannot_leave_its_attribute():
    from ftkit import plots

    text = display.figure_html(plots.bars(["a"], [1], label="x").figure, '" onload="alert(1)')
    (image,) = Page(text).of("img")
    assert set(image) == {"alt", "src"}
    assert image["alt"] == '" onload="alert(1)'


def test_a_record_without_tables_has_an_empty_frame():
    assert Record().frame().empty
    assert repr(Record()) == "Record"


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (display.seconds, 9.96, "10.0 s"),
        (display.seconds, 119.4, "119 s"),
        (display.seconds, 3599, "59 min 59 s"),
        (display.size, 999, "999 B"),
        (display.size, 9_400_000, "9.4 MB"),
        (display.size, 1_200_000_000, "1.2 GB"),
        (display.points, 0.0, "+0.0"),
        (display.percent, 1.0, "100.0 %"),
        (display.count, 0, "0"),
    ],
)
def test_numbers_are_written_as_people_read_them(function, value, expected):
    assert function(value) == expected


def test_a_shortened_text_keeps_to_its_limit():
    for limit in (1, 2, 5, 10):
        assert len(display.shorten("one two three four", limit)) <= limit
    assert not re.search(r"\s…", display.shorten("one two three", 5))
