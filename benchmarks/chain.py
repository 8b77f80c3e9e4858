"""How long the default chain takes, intervals and attribution included, on people and networks that are drawn.

python -m benchmarks.chain --people 1800 --members 5
"""

from __future__ import annotations

import argparse
import time

from benchmarks.people_model import draw
from benchmarks.scenarios import CLASSES, SCENARIOS, VIEWS
from benchmarks.ways import head_members
from ensemble.line import Choices, run_chain
from heads.registry import JOINT
from pipeline.report.chain import describe


def main() -> None:
    """Draw, combine, describe, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1800, help="out of fold and in the eval set, seven photos each")
    parser.add_argument("--members", type=int, default=5, help="of each head")
    parser.add_argument("--rounds", type=int, default=3, help="the first one also imports")
    given = parser.parse_args()
    drawn = draw(SCENARIOS["competition"], people=given.people, eval_people=given.people, members=given.members)
    members = [head_members(drawn, head) for head in CLASSES]
    for _ in range(given.rounds):
        start = time.perf_counter()
        outcome = run_chain(members, None, JOINT.classes, Choices())
        combined = time.perf_counter()
        describe(outcome, VIEWS, Choices(), {})
        told = time.perf_counter()
        print(f"{combined - start:.2f} s to combine, {told - combined:.2f} s for intervals and attribution")


if __name__ == "__main__":
    main()
