"""A forecast is quick, leaves the model alone, and knows that freezing from below saves time and memory."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch

from ftkit.forecast import Calibration, calibrate, estimate, estimates
from ftkit.plan import Plan

FREEZING = ["all", "blocks", "top 2", "top 1", "head"]  # each freezes more than the one before


@pytest.fixture(scope="module")
def given():
    return Calibration(forward_s=0.1, update_s=0.002, n_blocks=3, n_train=60, n_valid=30, activation_bytes=10_000)


def test_a_measured_estimate_is_a_positive_number_of_seconds_and_bytes(base, data):
    found = estimate(base, data, Plan(train="top 1"))
    assert 0 < found.train_s < 600
    assert found.peak_bytes > 1e6
    assert calibrate(base, data).forward_s > 0


def test_freezing_deeper_never_costs_more(base, data, given):
    costs = [estimate(base, data, Plan(train=t), given) for t in FREEZING]
    assert [c.train_s for c in costs] == sorted((c.train_s for c in costs), reverse=True)
    assert [c.peak_bytes for c in costs] == sorted((c.peak_bytes for c in costs), reverse=True)
    below_all = [c.train_s for c in costs[1:]]
    assert below_all == sorted(set(below_all), reverse=True)  # each block that is frozen from below saves something
    assert costs[-1].train_s < costs[0].train_s / 2


def test_one_low_block_costs_the_way_down_to_it(base, data, given):
    low, top = (estimate(base, data, Plan(train=(b, "head")), given).train_s for b in ("block 0", "block 2"))
    assert low > top
    assert low == pytest.approx(estimate(base, data, Plan(train="blocks"), given).train_s, rel=0.01)


def test_time_grows_with_epochs_and_a_probe_is_paid_for(base, data, given):
    one, two = (estimate(base, data, Plan(epochs=n, cache=False), given).train_s for n in (2, 4))
    assert 1.5 < two / one <= 2
    assert estimate(base, data, Plan(epochs=2, start="probe", cache=False), given).train_s > one


def test_the_sum_is_that_of_its_parts(base, data, given):
    # Two steps of 32 rows with forward only; an update of 51 weights; 30 valid rows before and after the epoch.
    slow = dataclasses.replace(given, update_s=2000.0)
    expected = 2 * (0.1 + 2000 * 51 / 1e6) + 2 * 0.1 * 30 / 32
    assert estimate(base, data, Plan(epochs=1, cache=False), slow).train_s == pytest.approx(expected)
    kept = 0.1 * 90 / 32 + 2 * 2000 * 51 / 1e6  # all rows once, then the head alone
    assert estimate(base, data, Plan(epochs=1), slow).train_s == pytest.approx(kept)


def test_what_is_kept_is_paid_for_once(base, data, given):
    for train, share in (("head", 1), ("top 1", 2 / 3), ("top 2", 1 / 3), ("blocks", 0)):
        plans = [Plan(train=train, epochs=n, cache=kept) for n in (1, 5) for kept in (True, False)]
        one, one_anew, five, five_anew = (estimate(base, data, plan, given).train_s for plan in plans)
        assert one_anew - one == pytest.approx(0.1 * share * (2 + 60 / 32) - 0.1 * share * 90 / 32)
        assert (five_anew - one_anew) - (five - one) == pytest.approx(4 * 0.1 * share * (2 + 30 / 32))


def test_an_estimate_is_quick_enough_for_a_slider_and_runs_no_model(base, data, given, monkeypatch):
    def forward(*args, **kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(base.encoder, "forward", forward)
    estimate(base, data, Plan(), given)
    took = []
    for train in FREEZING:
        began = time.perf_counter()
        estimate(base, data, Plan(train=train), given)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.020


def test_measuring_changes_neither_the_model_nor_the_data(base, data):
    before = {n: t.clone() for n, t in base.encoder.state_dict().items()}
    state, opened = torch.get_rng_state(), [rows.opened for rows in data.parts]
    estimate(base, data, Plan(train="all"))
    assert all(torch.equal(before[n], t) for n, t in base.encoder.state_dict().items())
    assert not any(p.grad is not None for p in base.encoder.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert [rows.opened for rows in data.parts] == opened


def test_an_estimate_says_that_it_is_one(base, data, given):
    assert estimate(base, data, Plan(), given).summary().startswith("Roughly ")


def test_several_plans_stand_side_by_side(base, data):
    plans = [Plan(train="head"), Plan(train="all", tensors="bias"), Plan(train="all")]
    bill = estimates(base, data, plans)
    assert bill.frame()["what trains"].tolist() == ["head", "all, bias vectors only", "all"]
    assert list(bill.n_trained) == [p.preview(base, 3).n_trained for p in plans]
    assert bill.estimates[0].train_s < bill.estimates[1].train_s < bill.estimates[2].train_s


def test_gradual_unfreezing_costs_less_than_all_at_once(base, data, given):
    plan = Plan(train="blocks", epochs=4)
    at_once, gradual = (estimate(base, data, p, given).train_s for p in (plan, plan.but(gradual=True)))
    assert gradual < at_once
