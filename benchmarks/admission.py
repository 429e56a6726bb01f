"""How long refusing a hostile graph takes, and admitting a sound one.

Graphs of thirty kinds (tests/ir/hostile_graphs.py) at several sizes, refused by `ir.admission`. The
goal is 0.1 s of one core per mebibyte; a graph below one mebibyte may take as long as one of that
size. Best of `--rounds` runs each, processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from homespun.errors import HomespunError
from ir.admission import admit
from tests.ir.hostile_graphs import CHANGES, sound_model, spoiled

GOAL_S_PER_MIB = 0.1


def main() -> None:
    """Measure, print a table, and with `--json` one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[30, 2_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [row for nodes in given.nodes for row in measured(nodes, given.rounds)]
    print(f"{'graph':26s} {'nodes':>6s} {'MiB':>6s} {'ms':>8s} {'of the goal':>12s}")
    for row in rows:
        print(f"{row['graph']:26s} {row['nodes']:6d} {row['mib']:6.2f} {row['ms']:8.1f} "
              f"{row['of_goal']:11.0%}")
    if given.json:
        print(json.dumps({"goal_s_per_mib": GOAL_S_PER_MIB, "rows": rows}))


def measured(nodes: int, rounds: int) -> list[dict[str, float | int | str]]:
    """One row per kind of graph of a size."""
    rows: list[dict[str, float | int | str]] = []
    for kind in ("sound", *sorted(CHANGES)):
        draw = random.Random(nodes)
        model = sound_model(draw, nodes) if kind == "sound" else spoiled(kind, nodes, draw)
        data = model.SerializeToString()
        best_s = min(seconds(data) for _ in range(rounds))
        mib = len(data) / 2**20
        rows.append({
            "graph": kind, "nodes": nodes, "mib": round(mib, 3), "ms": round(1e3 * best_s, 2),
            "of_goal": round(best_s / (GOAL_S_PER_MIB * max(1.0, mib)), 3)})
    return rows


def seconds(data: bytes) -> float:
    """Processor time of one answer."""
    began = time.process_time()
    with contextlib.suppress(HomespunError):
        admit(data)
    return time.process_time() - began


if __name__ == "__main__":
    main()
