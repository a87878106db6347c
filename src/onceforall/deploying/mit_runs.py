"""Weights of MIT become a run directory, or a network file for `network.weights`; and a run becomes their file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from onceforall.architecture import Resolution
from onceforall.data import DataSet
from onceforall.deploying.mit_configs import check_config, image_size
from onceforall.deploying.mit_weights import from_mit_file, read_mit_file, to_mit_state_dict
from onceforall.errors import UserError
from onceforall.evaluation.environment import environment
from onceforall.files import write_atomically, write_json
from onceforall.recipes import DataOptions, NetworkOptions, Recipe, build_data, change_recipe
from onceforall.runs import find_weights, read_run
from onceforall.supernets.heads import with_classes
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.checkpoint import load_network, save_network
from onceforall.training.phases import Phase
from onceforall.training.records import SETTINGS, SPLITS, describe_run

__all__ = ["export_mit", "import_network", "import_run"]

RESOLUTIONS = (128, 160, 192, 224)
IMAGENET = DataOptions(channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PHASE = "imported"


def import_network(
    path: Path,
    *,
    resolutions: Sequence[Resolution] | None = None,
    depths: Sequence[int] | None = None,
    expand_ratios: Sequence[float] | None = None,
    num_classes: int | None = None,
) -> OFAMobileNetV3:
    """The network of a file of MIT, or of a folder of a specialised model; see `from_mit_file` for the choices.

    A `net.config` beside the file must describe the same network, and a `run.config` gives its resolution. With
    `num_classes` the last layer is drawn anew.
    """
    weights = path / "init" if path.is_dir() else path
    told = image_size(weights.parent)
    sizes = tuple(resolutions or (RESOLUTIONS if told is None else (told,)))
    network = from_mit_file(read_mit_file(weights), sizes, depths, expand_ratios)
    if (config := weights.parent / "net.config").is_file():
        check_config(config, network)
    return network if num_classes is None else with_classes(network, num_classes)


def import_run(
    network: OFAMobileNetV3,
    source: Path,
    folder: Path,
    data: Path,
    overrides: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> DataSet:
    """Make the run directory `folder` of imported weights and the images that they are evaluated and calibrated on.

    Args:
        network: from `import_network`.
        source: the file or folder that it came from.
        folder: must be empty.
        data: folder of the images; they are prepared as MIT's are, unless `overrides` (`key=value`) say otherwise.
        overrides: of fields of the run's recipe.
        progress: told of how far reading the images is.

    Raises `UserError` where the images have another number of classes than the network.
    """
    space = network.space
    options = NetworkOptions(
        width_mult=network.options["width_mult"],
        kernel_sizes=space.kernel_sizes,
        expand_ratios=space.expand_ratios,
        depths=space.depths,
        resolutions=space.resolutions,
    )
    recipe = change_recipe(Recipe(PHASE, options, IMAGENET, schedule={}), [f"data.path={data}", *overrides])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; choose another folder for the run by --out.")
    if recipe.network != options:
        raise UserError("--set network...: the weights decide the network; --resolutions is its only choice.")
    images = build_data(recipe, progress)
    own, channels = network.options["num_classes"], network.options["in_channels"]
    if images.num_classes != own:
        raise UserError(
            f"{source} has {own} classes and the images in {data} have {images.num_classes}; "
            f"--num-classes {images.num_classes} draws its last layer anew for them."
        )
    if images.channels != channels:
        raise UserError(f"the {images.inputs} have {images.channels} channels; {source} takes {channels}.")
    described = describe_run(
        [Phase(PHASE, space, epochs=1)],
        recipe.run,
        images,
        {"class": type(network).__name__, "options": network.options, "space": space.to_dict()},
        {"recipe": recipe.to_dict(), "imported": {"file": source.name}},
    )
    described["phases"][0]["epochs"] = 0  # nothing was trained here
    info = {"phase": PHASE, "classes": list(images.classes), "preparation": images.preparation.to_dict(), "epoch": 0}
    for which in ("best", "last"):
        weights = folder / "checkpoints" / f"1-{PHASE}-{which}.safetensors"
        save_network(network, weights, info | {"which": which})
    images.write_splits(folder / SPLITS)
    write_json(folder / SETTINGS, described | {"environment": environment()})
    return images


def export_mit(run_dir: Path, out: Path, phase: str | None = None, published: bool = False) -> int:
    """Write the weights of a run, by default of its newest phase, as a file that MIT's code loads.

    Returns the number of its entries. `published` names them as MIT's published files do.
    """
    described, _ = read_run(run_dir)
    _, weights = find_weights(run_dir, described, phase)
    state = to_mit_state_dict(load_network(weights), published)
    write_atomically(out, lambda file: torch.save({"state_dict": state}, file))
    return len(state)
