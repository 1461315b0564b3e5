"""Measures of peers, collected once in turns and shown by pytest-benchmark for each of them.

A test that asks for ``compare`` runs once for each peer. The first run collects the samples of all, in rounds that
alternate between them; then each run gives its peer's part to pytest-benchmark, by a clock that tells what was measured
before. Peers other than the shims are named with the marker ``beside``.

A whole run is kept in results/, without the measures that failed; one that was told to leave something out is only shown.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import peers, table
from harness.caller import group_of_its_own
from harness.results import PATH, Results
from harness.workshop import Workshop

Collect = Callable[[], dict[str, list[float]]]


class Tape:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


_tape = Tape()
_results = pytest.StashKey[Results]()
_partial = pytest.StashKey[bool]()
_errors = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the long forms of what is shortened by default")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "beside(names): peers other than the shims")
    # SIGTERM ends a run as Ctrl-C does: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.stash[_results] = Results.of_today(peers.versions(), full=config.getoption("--full"))
    config.stash[_partial] = [Path(arg).resolve() for arg in config.args] != [Path(__file__).parent]


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        items[0].config.stash[_partial] = True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "compare" in metafunc.fixturenames:
        beside = metafunc.definition.get_closest_marker("beside")
        metafunc.parametrize("shown", [*peers.shims(), *(beside.args if beside else [])])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "compare" in getattr(item, "fixturenames", []):
            item.add_marker(pytest.mark.benchmark(timer=_tape))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    stash, whole = session.config.stash, {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    results = stash[_results]
    if exitstatus in whole and results.measures and not stash[_partial]:
        results.add("C in native/", "lines", {peers.OURS: [float(c_lines())]})
        results.save(PATH)


def c_lines() -> int:
    sources = [path for path in (peers.TOP / "native").glob("*.[ch]") if path.name != "_ffi.c"]
    return sum(len(path.read_text().splitlines()) for path in sources)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash[_results]
    if results.measures:
        terminalreporter.section("medians, and how much of each peer's is needed here")
        for line in table.lines(results):
            terminalreporter.write_line(line)
        for line in config.stash.get(_errors, [])[:10]:
            terminalreporter.write_line(f"logged by {line}")
        if len(peers.of_containerd(peers.shims())) < 2:
            terminalreporter.write_line("one of containerd's shims is not here, or does not run on this host")


@pytest.fixture(scope="session")
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    workshop = Workshop()
    request.config.stash[_errors] = workshop.errors
    try:
        with group_of_its_own(workshop.group):
            yield workshop
    finally:
        left = workshop.close()
    assert not left, f"had to be killed: {left}"


@pytest.fixture(scope="session")
def collected() -> dict[str, dict[str, list[float]] | None]:
    """By measure; None for one that has failed, which is not tried again for each peer."""
    return {}


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--full")


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps the samples of a measure: ``record(name, {peer: samples}, unit)``."""

    def record(name: str, samples: dict[str, list[float]], unit: str = "s") -> None:
        request.config.stash[_results].add(name, unit, samples)

    return record


@pytest.fixture
def compare(benchmark, record, shown: str, collected) -> Callable[[str, Collect], None]:
    """``compare(name, collect)`` keeps and shows what ``collect()`` returns: the seconds that each peer took."""

    def compare(name: str, collect: Collect) -> None:
        benchmark.group, benchmark.name = name, shown
        if name not in collected:
            collected[name] = None
            collected[name] = collect()
            record(name, collected[name])
        samples = collected[name] or pytest.fail("the first of this measure has failed")
        play(benchmark, samples[shown])

    return compare


def play(benchmark, samples: list[float]) -> None:
    rest = iter(samples)

    def sample() -> None:
        _tape.now += next(rest)

    benchmark.pedantic(sample, rounds=len(samples))
