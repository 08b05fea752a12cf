"""Holdfast and boilermaker on Holdfast's Service Bus emulator, in turn: `python benchmarks/compare_servicebus.py`.

Each run has an emulator of its own. Each system sends tasks that do nothing, and then has worker processes run them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from environments import python_of

HERE = Path(__file__).parent
SYSTEMS: dict[str, list[str]] = {"holdfast": [], "boilermaker": ["boilermaker-servicebus==1.4.1"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="worker processes")
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="only these systems")
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    names = asked.only or list(SYSTEMS)
    pythons = {name: python_of(name, SYSTEMS[name]) for name in names}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    # In turn, so that whatever else the machine does concerns all of them.
    for _ in range(asked.runs):
        for name in names:
            runs[name].append(measure(name, pythons[name], asked))
    report = {
        name: {what: statistics.median(each[what] for each in found) for what in found[0]}
        for name, found in runs.items()
    }
    if asked.as_json:
        print(json.dumps(report, indent=2))
        return
    for name, figures in report.items():
        print(f"{name:12}" + "".join(f"{what:>22} {value:9,.0f}" for what, value in figures.items()))
    if len(report) == 2:
        ours, theirs = report["holdfast"], report["boilermaker"]
        print(f"{'ratio':12}" + "".join(f"{what:>22} {ours[what] / theirs[what]:9.1f}" for what in ours))
    print(f"\nmedians of {asked.runs} runs, {asked.jobs} tasks that do nothing; worker processes: {asked.processes}")


def measure(name: str, python: str, asked: argparse.Namespace) -> dict[str, float]:
    """The figures of one run."""
    command = [sys.executable, "-m", "holdfast", "servicebus-emulator", "--port", "0", "--json", "--queue", "default"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout is not None
        try:
            port = json.loads(emulator.stdout.readline())["port"]
            driver = [python, str(HERE / "on_servicebus" / "driver.py"), name, str(port)]
            driver += [str(asked.jobs), str(asked.processes)]
            return json.loads(subprocess.run(driver, check=True, stdout=subprocess.PIPE).stdout)
        finally:
            emulator.terminate()


if __name__ == "__main__":
    main()
