"""Inside and outside differ in the wording and in nothing else: same diseases, none of them trained on or tested."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from ftkit.data import load_data
from ftkit.data.shift import other_wordings


@pytest.fixture(scope="module")
def shift():
    return other_wordings(load_data("health/diagnoses", per_class=20), n=300)


@pytest.mark.needs_assets("icd10cm")
def test_only_descriptions_are_tuned_on_and_only_other_wordings_are_outside(shift):
    assert not any("#" in i for part in (shift.data.train, shift.data.valid, shift.inside) for i in part.ids)
    assert all("#" in i for i in shift.outside.ids)
    assert len(shift.inside) == len(shift.outside) == 300


@pytest.mark.needs_assets("icd10cm")
def test_no_scored_disease_is_in_train_or_test(shift):
    scored = set(shift.inside.groups) | set(shift.outside.groups)
    assert not scored & (set(shift.data.train.groups) | set(shift.data.test.groups))
    assert set(shift.outside.groups) & set(shift.inside.groups)


@pytest.mark.needs_assets("icd10cm")
def test_both_speak_of_all_chapters_and_test_stays_closed(shift):
    for rows in (shift.inside, shift.outside):
        assert rows.label_names == shift.data.label_names
        assert np.count_nonzero(rows.counts) >= 18
    assert shift.data.test.opened == 0
    assert "300 of another" in shift.summary()


def test_another_set_is_refused():
    with pytest.raises(ValueError, match="tiny"):
        other_wordings(tiny.splits(grouped=True))
