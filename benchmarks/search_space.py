"""How fast architectures are drawn, checked, counted and extracted.

    python benchmarks/search_space.py

OFA-MobileNetV3 at width 1 with its full space; processor time on one thread, the best of three runs.
"""

import random
from collections.abc import Callable
from itertools import cycle

import torch
from common import begin, finish, make_parser, say, seconds_per_call

import onceforall as ofa


def main() -> None:
    """Measure, print, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each number (default 1.5)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = begin()

    net = ofa.create_supernet("ofa_mbv3", num_classes=1000).eval()
    space, rng = net.space, random.Random(0)
    drawn = cycle([space.sample(rng) for _ in range(64)])
    image = torch.zeros(1, 3, 64, 64)

    @torch.inference_mode()
    def forward() -> None:
        net(image, next(drawn))

    calls: dict[str, Callable[[], object]] = {
        "sample": lambda: space.sample(rng),
        "check": lambda: space.check(next(drawn)),
        "encode": lambda: space.encode(next(drawn)),
        "cost": lambda: ofa.cost(net, next(drawn)),
        "subnet": lambda: net.subnet(next(drawn)),
        "forward, 1 image of 64 px": forward,
    }
    seconds = {}
    for name, call in calls.items():
        value = seconds[name] = seconds_per_call(call, 0.03 if arguments.smoke else arguments.seconds)
        say(f"{name:26} {1e3 * value:9.3f} ms   {1 / value:9.0f} per second")
    share = seconds["check"] / seconds["forward, 1 image of 64 px"]
    say(f"the check that every call of a supernet makes is {share:.2%} of a forward pass of one image")
    finish(report, seconds, arguments.out)


if __name__ == "__main__":
    main()
