"""Which budgets hold, and in which words."""

from __future__ import annotations

import pytest
from harness.budgets import BUDGETS, Verdict, verdicts
from harness.measures import MEASURES
from harness.results import Results


def verdict(results: Results, measure: str) -> Verdict:
    (found,) = [one for one in verdicts(results) if one.measure == measure]
    return found


def test_every_budget_is_of_something_that_is_measured() -> None:
    assert {budget.measure for budget in BUDGETS} <= set(MEASURES)


def test_every_budget_has_one_bound() -> None:
    assert all(bool(budget.ratio) != bool(budget.most) for budget in BUDGETS)


def test_a_ratio_is_held_against_each_version(results: Results) -> None:
    state = verdict(results, "State")
    assert state.wanted == "at most 0.7 ×"
    assert state.holds == {"containerd 1.6": True, "containerd 2.1": False}
    assert state.word == "only against containerd 1.6"
    assert state.measured == "30 µs, 0.5 × of containerd 1.6, 0.75 × of containerd 2.1"


def test_memory_is_held_against_the_newer_one_alone(results: Results) -> None:
    memory = verdict(results, "memory")
    assert memory.holds == {"containerd 2.1": True}
    assert memory.word == "holds"


def test_missed(results: Results) -> None:
    assert verdict(results, "start").word == "missed"


@pytest.mark.parametrize(("seconds", "word"), [(0.0049, "holds"), (0.0051, "missed"), (-0.001, "holds")])
def test_a_bound_of_its_own(results: Results, seconds: float, word: str) -> None:
    results.add("own share of create to delete", "s", {"ocishim": [seconds], "containerd 1.6": [0.001]})
    own = verdict(results, "own share of create to delete")
    assert own.word == word
    assert own.wanted == "at most 5 ms"


def test_what_was_not_measured_neither_holds_nor_not(results: Results) -> None:
    assert verdict(results, "Pids").word == "not measured"
    results.add("Pids", "s", {"ocishim": [1.0]})
    assert verdict(results, "Pids").word == "not measured"
