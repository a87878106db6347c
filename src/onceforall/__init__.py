"""Train one elastic network once, then take from it in seconds an ordinary network for any device and budget.

Names are imported when they are first used, so `import onceforall` does not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from onceforall.architecture import Architecture as Architecture
    from onceforall.architecture import Block as Block
    from onceforall.architecture import Stage as Stage
    from onceforall.data import Augmentation as Augmentation
    from onceforall.data import ImageData as ImageData
    from onceforall.data import check_data as check_data
    from onceforall.data import from_arrays as from_arrays
    from onceforall.data import load_data as load_data
    from onceforall.errors import UserError as UserError
    from onceforall.evaluation.calibration import calibrate as calibrate
    from onceforall.evaluation.cost import Cost as Cost
    from onceforall.evaluation.cost import cost as cost
    from onceforall.evaluation.evaluate import Evaluation as Evaluation
    from onceforall.evaluation.evaluate import calibrated_subnet as calibrated_subnet
    from onceforall.evaluation.evaluate import evaluate as evaluate
    from onceforall.evaluation.latency import measure_latency as measure_latency
    from onceforall.evaluation.pruning import prune_exits as prune_exits
    from onceforall.evaluation.tasks import Task as Task
    from onceforall.evaluation.tasks import classification as classification
    from onceforall.exporting import export as export
    from onceforall.predict import Predictor as Predictor
    from onceforall.recipes import Recipe as Recipe
    from onceforall.search_space import SearchSpace as SearchSpace
    from onceforall.searching.rounds import search as search
    from onceforall.supernets.registry import create_supernet as create_supernet
    from onceforall.supernets.registry import list_supernets as list_supernets
    from onceforall.supernets.supernet import Freeze as Freeze
    from onceforall.supernets.supernet import Supernet as Supernet
    from onceforall.training.checkpoint import load_network as load_network
    from onceforall.training.loop import RunOptions as RunOptions
    from onceforall.training.loop import train as train
    from onceforall.training.phases import Phase as Phase
    from onceforall.training.phases import Teacher as Teacher
    from onceforall.training.schedules import extended_progressive_shrinking as extended_progressive_shrinking
    from onceforall.training.schedules import progressive_expansion as progressive_expansion
    from onceforall.training.schedules import progressive_shrinking as progressive_shrinking
    from onceforall.training.schedules import sandwich as sandwich

_HOMES = {
    "architecture": ("Architecture", "Block", "Stage"),
    "data": ("Augmentation", "ImageData", "check_data", "from_arrays", "load_data"),
    "errors": ("UserError",),
    "evaluation.calibration": ("calibrate",),
    "evaluation.cost": ("Cost", "cost"),
    "evaluation.evaluate": ("Evaluation", "calibrated_subnet", "evaluate"),
    "evaluation.latency": ("measure_latency",),
    "evaluation.pruning": ("prune_exits",),
    "evaluation.tasks": ("Task", "classification"),
    "exporting": ("export",),
    "predict": ("Predictor",),
    "recipes": ("Recipe",),
    "search_space": ("SearchSpace",),
    "searching.rounds": ("search",),
    "supernets.registry": ("create_supernet", "list_supernets"),
    "supernets.supernet": ("Freeze", "Supernet"),
    "training.checkpoint": ("load_network",),
    "training.loop": ("RunOptions", "train"),
    "training.phases": ("Phase", "Teacher"),
    "training.schedules": (
        "extended_progressive_shrinking",
        "progressive_expansion",
        "progressive_shrinking",
        "sandwich",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'onceforall' has no attribute {name!r}")
    return getattr(importlib.import_module(f"onceforall.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """Names of the public face."""
    return [*__all__, "__version__"]
