"""What becomes of the results of the latest whole run.

python -m harness.report          makes the picture, and the table in README.md
python -m harness.report check    tells which of DESIGN.md's budgets hold; exit status 0 whatever they do
"""

from __future__ import annotations

import sys

from harness import picture, results, table
from harness.budgets import verdicts
from harness.peers import TOP
from harness.results import Results

BEGIN, END = "<!-- made by `make bench` -->", "<!-- up to here -->"
PICTURE = results.PATH.with_name("picture.svg")
README = TOP / "README.md"


def main(words: list[str]) -> None:
    check = words == ["check"]
    if not results.PATH.exists():
        if check:
            print("nothing has been measured yet: `make bench`")
        return
    latest = Results.load(results.PATH)
    if check:
        print(f"measured on {latest.date}")
        print(*table.verdict_lines(verdicts(latest)), sep="\n")
        return
    PICTURE.write_text(picture.picture(latest))
    README.write_text(with_section(README.read_text(), section(latest)))


def section(latest: Results) -> str:
    machine, versions = latest.machine, latest.versions
    return "\n".join(
        [
            f"![bars of what is measured]({PICTURE.relative_to(TOP)})",
            "",
            f"Measured on {latest.date}: {machine['cpus']}, {machine['memory']}, {machine['kernel']}, cgroup {machine['cgroups']},",
            f"load {machine['load']} before, runc {versions['runc']}, Python {versions['Python']}. Medians; less is better; in brackets",
            "ocishim's part of what the other needs. What shims share with each other is told apart from what is one's own.",
            "",
            table.markdown(latest),
        ]
    )


def with_section(text: str, section: str) -> str:
    """`text` with this between the markers; raises ValueError when they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no {BEGIN} and {END} in the text")
    return f"{before}{BEGIN}\n{section}\n{END}{after}"


if __name__ == "__main__":
    main(sys.argv[1:])
