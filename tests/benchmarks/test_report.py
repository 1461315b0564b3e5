"""The table and the picture, and where they go."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from harness import budgets, picture, report, table
from harness import results as results_module
from harness.measures import MEASURES
from harness.results import Results

SVG = "{http://www.w3.org/2000/svg}"


def test_lines_have_a_column_for_each_peer(results: Results) -> None:
    head, start, memory, state = table.lines(results)
    assert head.split() == ["ocishim", "containerd", "2.1", "containerd", "1.6", "conmon"]
    assert start.split("  ")[0] == "start"
    assert "10 ms (1.1 ×)" in start
    assert "9 MiB (0.44 ×)" in memory
    assert "60 µs (0.5 ×)" in state


def test_markdown_is_a_table_with_explanations(results: Results) -> None:
    head, rule, *rows = table.markdown(results).splitlines()
    assert head == "|  | ocishim 0.1.0 | containerd 2.1.9 | containerd 1.6.20 | conmon |"
    assert rule == "| --- | --- | --- | --- | --- |"
    assert all(row.count("|") == head.count("|") for row in rows)
    assert f"| State: {MEASURES['State']} | **30 µs** |" in rows[2]


def test_losses_are_in_the_table(results: Results) -> None:
    start = table.markdown(results).splitlines()[2]
    assert "| 11 ms |" in start
    assert "**10 ms** (1.1 ×)" in start


def test_verdicts_are_aligned(results: Results) -> None:
    lines = table.verdict_lines(budgets.verdicts(results))
    assert len(lines) == len(budgets.BUDGETS)
    assert len({line.index("at most") for line in lines if "at most" in line}) == 1


def test_the_picture_has_a_bar_for_each_value(results: Results) -> None:
    root = ET.fromstring(picture.picture(results))
    bars = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class", "").startswith("bar")]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    peers, values = 4, 9
    assert len(bars) == peers + values
    assert {"start", "State", "memory", "4 MiB", "300 KiB", "11 ms"} <= set(texts)


def test_nothing_of_the_picture_is_outside(results: Results) -> None:
    results.add("Pids", "s", {"ocishim": [1e-5, 2e-5, 9e-5], "containerd 1.6": [0.004], "conmon": [0.0]})
    results.add("memory that execs leave", "B", {"ocishim": [-4096.0]})
    root = ET.fromstring(picture.picture(results))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(name, 0)) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height


def test_a_name_is_escaped_in_the_picture(results: Results) -> None:
    results.versions["Python"] = "<3> & more"
    assert ET.fromstring(picture.picture(results)) is not None


def test_everything_in_the_picture_is_measured() -> None:
    assert set(picture.SHOWN) <= set(MEASURES)


def test_a_section_is_replaced_and_the_rest_stays() -> None:
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.with_section(text, "new")
    assert once == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    assert report.with_section(once, "new") == once


def test_a_text_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="made by"):
        report.with_section("nothing", "new")


def test_readme_has_the_markers() -> None:
    assert report.with_section(report.README.read_text(), "x")


def test_the_report_is_made_of_the_latest_results(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results_module, "PATH", tmp_path / "results.json")
    monkeypatch.setattr(report, "TOP", tmp_path)
    monkeypatch.setattr(report, "PICTURE", tmp_path / "picture.svg")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    report.main([])
    assert not report.PICTURE.exists()
    report.main(["check"])
    assert "nothing has been measured" in capsys.readouterr().out
    results.save(tmp_path / "results.json")
    report.README.write_text(f"{report.BEGIN}{report.END}")
    report.main([])
    assert "](picture.svg)" in report.README.read_text()
    assert report.PICTURE.read_text().startswith("<svg")
    report.main(["check"])
    assert "only against containerd 1.6" in capsys.readouterr().out
