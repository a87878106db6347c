"""What does it save to measure a grid of early-exit networks trunk by trunk instead of one by one?

    python benchmarks/grid_evaluation.py
    python benchmarks/grid_evaluation.py --width 0.25 --images 200

The grid of OFAv2's EE_B network: kernel 3 x expansion 3 x depth 3 x height 5 x resolution 3 = 405 sub-networks, each
calibrated on up to 512 training images and measured on as many test images as `--images` says, all prepared before.
Shared and one by one take turns, resolution by resolution; processor time on one thread.
"""

import numpy as np
import torch
from common import begin, finish, interleaved, make_parser, say

import onceforall as ofa
from onceforall.evaluation.trunks import group_by_trunk
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3

CALIBRATION_IMAGES = 512


def make_data(images: int, classes: int) -> ofa.ImageData:
    """Noise of 64 px: `images` to test on, and about three times as many to calibrate on."""
    count = 5 * images
    pixels = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    return ofa.from_arrays(pixels, np.arange(count) % classes, max_resolution=64, test_fraction=0.2)


def main() -> None:
    """Measure, print, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--width", type=float, default=1.0, help="width multiplier (default 1)")
    parser.add_argument("--images", type=int, default=700, help="test images (default 700)")
    parser.add_argument("--classes", type=int, default=20, help="classes (default 20)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = begin()

    data = make_data(40 if arguments.smoke else arguments.images, 4 if arguments.smoke else arguments.classes)
    space = ofa.SearchSpace.build(
        5,
        resolutions=(48,) if arguments.smoke else (48, 56, 64),
        depths=(2, 3, 4),
        kernel_sizes=(3,) if arguments.smoke else (3, 5, 7),
        expand_ratios=(3,) if arguments.smoke else (3, 4, 6),
        heights=(1, 2, 3, 4, 5),
    )
    options = {"num_classes": data.num_classes, "width_mult": 0.25 if arguments.smoke else arguments.width}
    supernet = OFAMobileNetV3(space, **options).initialise(0).eval()
    task = ofa.classification()

    def measure(groups: list[list[ofa.Architecture]]) -> dict[ofa.Architecture, ofa.Evaluation]:
        found = [
            evaluation
            for group in groups
            for evaluation in ofa.evaluate(supernet, group, task, data, calibration_images=CALIBRATION_IMAGES)
        ]
        return {evaluation.architecture: evaluation for evaluation in found}

    total = {"shared": 0.0, "one by one": 0.0}
    for size in space.resolutions:
        members = [architecture for architecture, _ in space.restrict(resolutions=[size]).grid()]
        seen: dict[str, dict] = {}
        measure([members[:1]])  # prepares the images
        calls = {
            "shared": lambda members=members, seen=seen: seen.update(shared=measure([members])),
            "one by one": lambda members=members, seen=seen: seen.update(alone=measure([[m] for m in members])),
        }
        seconds = interleaved(calls, arguments.rounds, warmup=0)
        for name, values in seconds.items():
            total[name] += min(values)
        accuracy = [[seen[name][member].metrics["accuracy"] for member in members] for name in seen]
        trunks, ratio = len(group_by_trunk(members)), min(seconds["shared"]) / min(seconds["one by one"])
        say(
            f"{size} px: {len(members)} networks, {trunks} trunks: shared {min(seconds['shared']):.1f} s, one by one "
            f"{min(seconds['one by one']):.1f} s, ratio {ratio:.3f}; accuracies equal: {accuracy[0] == accuracy[1]}"
        )
    ratio = total["shared"] / total["one by one"]
    say(f"together: shared {total['shared']:.1f} s, one by one {total['one by one']:.1f} s, ratio {ratio:.3f}")
    finish(report, {**total, "ratio": ratio}, arguments.out)


if __name__ == "__main__":
    main()
