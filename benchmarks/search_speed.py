"""How long a search takes that judges 10,000 candidates by a predictor and a latency table.

    python benchmarks/search_speed.py

Each network has its full space. Its predictor (boosted trees, fitted to 200 architectures) and its latency table hold
made-up numbers: what they say does not change how long they take. Time of the processor and by the clock, one thread.
"""

import math
import random
import time

import torch
from common import begin, finish, make_parser, say

import onceforall as ofa
from onceforall.searching.latency_pieces import all_pieces
from onceforall.searching.latency_table import LatencyTable
from onceforall.searching.predictor import Predictor
from onceforall.searching.sampling import spread_architectures
from onceforall.searching.scales import Scale

NETWORKS = ("prox_mobilenet", "ofa_mbv3", "ee_d_ofa_mbv3")


def main() -> None:
    """Measure, print, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--candidates", type=int, default=10_000, help="to judge (default 10000)")
    arguments = parser.parse_args()
    candidates, fitted = (200, 20) if arguments.smoke else (arguments.candidates, 200)
    torch.set_num_threads(1)
    report = begin()
    numbers = {}
    for name in NETWORKS[:1] if arguments.smoke else NETWORKS:
        supernet = ofa.create_supernet(name, num_classes=10)
        predictor, table = made_up_models(supernet, fitted)
        clock, processor = time.perf_counter(), time.process_time()
        result = ofa.search(supernet, predictor, latency_table=table, candidates=candidates)
        seconds = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
        judged = sum(each.candidates for each in result.rounds)
        numbers[name] = seconds | {"judged": judged, "front": len(result.front)}
        say(
            f"{name}: {judged} candidates judged in {seconds['processor']:.1f} s of the processor, "
            f"{seconds['clock']:.1f} s by the clock; {len(result.front)} on the front"
        )
    finish(report, numbers, arguments.out)


def made_up_models(supernet: ofa.Supernet, fitted: int) -> tuple[Predictor, LatencyTable]:
    """A predictor and a latency table whose numbers follow the multiply-adds."""
    space, rng = supernet.space, random.Random(0)
    drawn = spread_architectures(space, fitted, lambda a: supernet.measure(a).macs)
    scores = [math.log(supernet.measure(a).macs) / 30 + rng.gauss(0, 0.005) for a in drawn]
    predictor = Predictor(
        space, "accuracy", True, tuple(drawn), tuple(scores), Scale("plain"), "boosted_trees", {}, 0.01
    )
    pieces = all_pieces(space, bool(supernet.options.get("dense")), rng)
    identity = {"options": dict(supernet.options)}
    return predictor, LatencyTable(identity, {piece.key: rng.uniform(0.05, 0.5) for piece in pieces})


if __name__ == "__main__":
    main()
