"""Every lesson runs from start to end, and is stored as a reader should find it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lessons import FIRST, execute, lessons, normalised, read

every_lesson = pytest.mark.parametrize("path", lessons(), ids=lambda p: p.stem)


@every_lesson
@pytest.mark.slow
@pytest.mark.needs_assets
def test_it_runs_with_small_parameters(path: Path) -> None:
    lesson = read(path)
    execute(lesson, folder=path.parent, parameters=lesson.metadata["ftkit"]["small"], timeout_s=300)


@every_lesson
def test_it_is_stored_with_outputs_and_without_noise(path: Path) -> None:
    lesson = read(path)
    assert normalised(lesson) == lesson, "make notebooks stores it without counts, timings and widget state"
    outputs = [output for cell in lesson.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs, "a lesson can be read without being run"
    assert not [output for output in outputs if output.output_type == "error"]
    assert len({cell.id for cell in lesson.cells}) == len(lesson.cells)


def test_there_is_a_first_lesson() -> None:
    assert lessons() and lessons()[0].name == FIRST
