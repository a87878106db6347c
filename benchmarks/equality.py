"""Is a sub-network the same in the supernet, extracted, and as an ONNX file?

    python benchmarks/equality.py RUN -n 50

For random architectures of a trained run, on held-out images: outputs of the supernet against the extracted network
(both with the supernet's running statistics, so nothing but extraction differs), then the calibrated network in PyTorch
against its ONNX file in onnxruntime.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from onceforall.deploying.export_run import export_run
from onceforall.runs import chosen_architectures, open_run


def main() -> None:
    """Print the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"), help="default: %(default)s")
    parser.add_argument("-n", type=int, default=50, help="random architectures")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = open_run(arguments.run)
    chosen = chosen_architectures(run.supernet.space, random_ones=arguments.n, seed=1)
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name, architecture in chosen.items():
            [(images, _)] = list(run.data.batches("test", architecture.resolution, 32, indices=range(32)))
            elastic = run.supernet(images, architecture)
            extracted = run.supernet.subnet(architecture)(images)
            row = {"name": name, "bit_equal": torch.equal(elastic, extracted)}
            with torch.inference_mode(False):
                report = export_run(run, architecture, Path(folder) / name)
            found = report.difference
            row |= {"difference": found.largest, "relative": found.relative}
            rows.append(row | {"agreement": found.agreement})
            print(f"{name:12} extracted equal: {row['bit_equal']}   ONNX differs by {found.relative:.1e}")
    equal = sum(row["bit_equal"] for row in rows)
    relative, absolute = (max(row[name] for row in rows) for name in ("relative", "difference"))
    print(
        f"{len(rows)} architectures: {equal} extracted bit for bit; ONNX differs by at most {relative:.1e} of the "
        f"largest output ({absolute:.1e} absolute), equal answers {min(row['agreement'] for row in rows):.1%} or more"
    )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
