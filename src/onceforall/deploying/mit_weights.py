"""The weights of Once-for-All's authors: their files become our networks, and our networks become such files.

Their names of layers stand in two tables, and everything goes through them and through `Supernet.elastic_layers`. A
file is read with tensors and plain values only; what it holds is found by the shapes.
"""

import itertools
import pickle
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from onceforall.architecture import MAIN_PATH, Architecture, Block, Resolution, Stage
from onceforall.choices import listed
from onceforall.errors import UserError
from onceforall.layers.elastic import ElasticBatchNorm, make_divisible
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import STAGES, STEM_WIDTH, OFAMobileNetV3
from onceforall.supernets.supernet import Supernet

__all__ = ["MitFile", "from_mit_file", "read_mit_file", "to_mit_state_dict"]

# our layers, and theirs
LAYERS = {
    "stem.0.conv": "first_conv.conv",
    "stem.0.norm": "first_conv.bn",
    "stem.1.depthwise.conv": "blocks.0.conv.depth_conv.conv",
    "stem.1.depthwise.norm": "blocks.0.conv.depth_conv.bn",
    "stem.1.project.conv": "blocks.0.conv.point_linear.conv",
    "stem.1.project.norm": "blocks.0.conv.point_linear.bn",
    "exits.5.expand.conv": "final_expand_layer.conv",
    "exits.5.expand.norm": "final_expand_layer.bn",
    "exits.5.mix": "feature_mix_layer.conv",
    "exits.5.classify": "classifier.linear",
}
BLOCK_LAYERS = {
    "expand.conv": "inverted_bottleneck.conv",
    "expand.norm": "inverted_bottleneck.bn",
    "depthwise.conv": "depth_conv.conv",
    "depthwise.norm": "depth_conv.bn",
    "squeeze.reduce": "depth_conv.se.fc.reduce",
    "squeeze.expand": "depth_conv.se.fc.expand",
    "project.conv": "point_linear.conv",
    "project.norm": "point_linear.bn",
}
MATRIX = "kernel_rule.matrices."  # ours of "7to5" are their "7to5_matrix"
COUNTER = "num_batches_tracked"  # of their batch normalisation; it has no use, and we have none
OFFERED = {"depths": (2, 3, 4), "expand_ratios": (3, 4, 6)}  # by their supernets; shapes tell only the largest
WIDTHS = (1.0, 1.2, *(step / 20 for step in range(1, 61)))


@final
@dataclass(frozen=True)
class MitFile:
    """What a file of weights holds.

    Args:
        path: of the file.
        tensors: by their names in the spelling of networks that are not elastic.
        elastic: whether they were spelled as those of an elastic network.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    elastic: bool


# -- names ----------------------------------------------------------------------------------------------------------


def _layer_names(network: Supernet) -> Iterator[tuple[str, str]]:
    """Our name and theirs of each layer of an OFA-MobileNetV3; they number blocks through all stages."""
    first = dict(enumerate(itertools.accumulate((len(s.blocks) for s in network.space.stages), initial=1)))
    for name, _ in network.elastic_layers():
        if name in LAYERS:
            yield name, LAYERS[name]
        else:
            _, stage, block, _, _, layer = name.split(".", 5)
            yield name, f"blocks.{first[int(stage)] + int(block)}.conv.{BLOCK_LAYERS[layer]}"


def _tensor_names(network: Supernet) -> Iterator[tuple[str, str]]:
    """Our name and theirs of each tensor, in the spelling of networks that are not elastic."""
    for ours, theirs in _layer_names(network):
        for key in network.get_submodule(ours).state_dict():
            matrix = key.removeprefix(MATRIX)
            yield f"{ours}.{key}", f"{theirs}.{key if matrix == key else f'{matrix}_matrix'}"


def _plain(name: str) -> str:
    """A name in any spelling, in that of networks that are not elastic."""
    parts = name.removeprefix("module.").replace(".mobile_inverted_conv.", ".conv.").split(".")
    return ".".join(part for part, _ in itertools.groupby(parts))


def _elastic(name: str) -> str:
    """A plain name in the spelling of elastic networks, whose convolutions and normalisations are wrapped."""
    wrapped = re.fullmatch(r"(blocks\.[1-9]\d*\..+\.)(conv|bn)\.(\w+)", name)
    if wrapped is None or wrapped[3].endswith("_matrix"):
        return name
    return f"{wrapped[1]}{wrapped[2]}.{wrapped[2]}.{wrapped[3]}"


# -- from a file ----------------------------------------------------------------------------------------------------


def read_mit_file(path: Path) -> MitFile:
    """Read a file of weights; nothing but tensors and plain values is accepted, and no code in it is run.

    Raises `UserError` where there is none, it is damaged, holds something else, or no OFA-MobileNetV3.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    with path.open("rb") as file:
        if file.read(512).lstrip()[:1] == b"<":
            raise UserError(f"{path} is a web page and no file of weights; download the file itself.")
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of a pickle that is not PyTorch's
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())
        found = re.search(r"GLOBAL [\w.]+|Unsupported [\w ]+", reason)
        raise UserError(
            f"{path} is refused: it holds more than tensors and plain values, or is none of PyTorch's files "
            f"({found[0] if found else reason[:80]}); nothing in it was run."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise UserError(f"{path} is truncated or damaged ({' '.join(str(error).split())[:80]}).") from error
    state = contents.get("state_dict", contents) if isinstance(contents, Mapping) else None
    named = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    if not named or not state:
        raise UserError(f"{path} holds no weights: a table of tensors, or one under the key 'state_dict', is wanted.")
    doubled = [name for name, count in Counter(map(_plain, state)).items() if count > 1]
    if doubled:
        raise UserError(f"{path} holds {doubled[0]} and {len(doubled) - 1} more names twice, in two spellings.")
    tensors = {_plain(name): tensor for name, tensor in state.items()}
    wanted = ("first_conv.conv.weight", "final_expand_layer.conv.weight", "classifier.linear.weight")
    if missing := [name for name in wanted if name not in tensors]:
        raise UserError(
            f"{path} holds another network than OFA-MobileNetV3: it has no {missing[0]}; its first entries are "
            f"{', '.join(list(state)[:3])}."
        )
    return MitFile(path, tensors, any(_plain(name) != name for name in state if ".bn.bn." in name))


def from_mit_file(
    file: MitFile,
    resolutions: Sequence[Resolution],
    depths: Sequence[int] | None = None,
    expand_ratios: Sequence[float] | None = None,
) -> OFAMobileNetV3:
    """The network of a file, in evaluation mode: elastic, or of one architecture where the file's is not elastic.

    Args:
        file: from `read_mit_file`.
        resolutions: at which it shall run; weights do not tell.
        depths: that were trained, of an elastic network; by default those that its file's name tells, or 2, 3, 4.
        expand_ratios: likewise; 3, 4, 6.

    Raises `UserError`, naming them, where tensors are missing, unknown or of another shape.
    """
    tensors = file.tensors
    width_mult, stages = _widths(file)
    blocks = [[_block(file, number) for number in numbers] for numbers in stages]
    single = Architecture(resolutions[0], tuple(Stage(tuple(stage)) for stage in blocks))
    space = replace(SearchSpace.only(single), resolutions=tuple(resolutions))
    if file.elastic:
        space = _elastic_space(
            file, space, _trained(file, "depths", depths), _trained(file, "expand_ratios", expand_ratios)
        )
    elif depths is not None or expand_ratios is not None:
        raise UserError(
            f"{file.path} holds a network that is not elastic: it has one depth and expansion for each place."
        )
    classes, channels = tensors["classifier.linear.weight"].shape[0], tensors["first_conv.conv.weight"].shape[1]
    with torch.device("meta"):
        network = OFAMobileNetV3(space, classes, channels, width_mult)
    network.load_state_dict(_matching(file, network), assign=True)
    return network.eval()


def _matching(file: MitFile, network: Supernet) -> dict[str, Tensor]:
    """The tensors of the file under our names; `UserError` unless each has its place and shape."""
    own, found, wrong = network.state_dict(), {}, []
    unknown = {name for name in file.tensors if not name.endswith(COUNTER)}
    for ours, theirs in _tensor_names(network):
        tensor, shape = file.tensors.get(theirs), own[ours].shape
        unknown.discard(theirs)
        if tensor is None:
            wrong.append(f"{theirs} is missing")
        elif tensor.shape not in (shape, (*shape, 1, 1)):  # their linear layers are convolutions
            wrong.append(f"{theirs} is {_size(tensor.shape)} and should be {_size(shape)}")
        else:
            found[ours] = tensor.reshape(shape).to(own[ours].dtype, copy=True)
    wrong += [f"{name} is not known" for name in sorted(unknown)]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(f"{file.path}: {len(wrong)} entries do not match: {'; '.join(wrong[:5])}{more}.")
    return found


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _widths(file: MitFile) -> tuple[float, list[list[int]]]:
    """The width multiplier, and the numbers of the blocks of each stage."""
    shapes = {name: tensor.shape for name, tensor in file.tensors.items() if tensor.ndim > 1}
    outputs: list[int] = []
    while (name := f"blocks.{len(outputs) + 1}.conv.point_linear.conv.weight") in shapes:
        outputs.append(shapes[name][0])
    stages = [list(group) for _, group in itertools.groupby(range(len(outputs)), key=lambda i: outputs[i])]
    found = [shapes["first_conv.conv.weight"][0], *(outputs[stage[0]] for stage in stages)]
    for width_mult in WIDTHS:
        if found == [make_divisible(width * width_mult) for width in (STEM_WIDTH, *(row[0] for row in STAGES))]:
            return width_mult, [[i + 1 for i in stage] for stage in stages]
    raise UserError(
        f"{file.path}: its stem and stages have the widths {listed(found)}, those of no OFA-MobileNetV3; at width 1.0 "
        f"they are {listed([STEM_WIDTH, *(row[0] for row in STAGES)])}, at 1.2 24, 32, 48, 96, 136, 192."
    )


def _block(file: MitFile, number: int) -> Block:
    """The largest block that block `number` of the file can be."""
    prefix = f"blocks.{number}.conv"
    names = [f"{prefix}.{BLOCK_LAYERS[layer]}.weight" for layer in ("expand.conv", "depthwise.conv")]
    if missing := [name for name in names if name not in file.tensors or file.tensors[name].ndim != 4]:
        raise UserError(f"{file.path}: {missing[0]} is missing, or is no weight of a convolution.")
    expand, depthwise = (file.tensors[name].shape for name in names)
    return Block(depthwise[-1], expand[0] / expand[1])


def _elastic_space(
    file: MitFile, largest: SearchSpace, depths: Sequence[int], expand_ratios: Sequence[float]
) -> SearchSpace:
    """The choices of an elastic network, of which `largest` has only the largest of each factor."""
    steps = re.findall(r"blocks\.1\.conv\.depth_conv\.conv\.(\d+)to(\d+)_matrix", "\n".join(file.tensors))
    kernel_sizes = {int(size) for step in steps for size in step} | set(largest.kernel_sizes)
    for name, given in (("depths", depths), ("expand_ratios", expand_ratios)):
        held = getattr(largest, name)
        if len(held) != 1:
            raise UserError(f"{file.path}: its blocks have {name} {listed(held)}; an elastic network has one largest.")
        if max(given) != held[0]:
            raise UserError(f"{name} {listed(given)}: the largest in {file.path} is {held[0]}; end with it.")
    return SearchSpace.build(
        len(STAGES),
        resolutions=largest.resolutions,
        kernel_sizes=sorted(kernel_sizes),
        depths=depths,
        expand_ratios=expand_ratios,
    )


def _trained(file: MitFile, factor: str, given: Sequence[float] | None) -> tuple:
    """The choices of a factor that were trained: as given, as the file's name tells (D34_E6_K357), or as usual."""
    if given is not None:
        return tuple(given)
    letter = factor[0]  # D of depths, E of expand_ratios
    told = re.search(rf"(?i)(?<![a-z]){letter}([1-9]+)(?![a-z0-9])", file.path.name)
    return tuple(map(int, told[1])) if told else OFFERED[factor]


# -- and back -------------------------------------------------------------------------------------------------------


def to_mit_state_dict(network: Supernet, published: bool = False) -> dict[str, Tensor]:
    """The weights of an OFA-MobileNetV3 under MIT's names and in their shapes.

    A network with one kernel, depth and expansion is spelled as their networks that are not elastic. The counters of
    batch normalisation, which we have not, are 0.

    Args:
        network: with five stages, one exit, no parallel paths, no dense skips, and kernels by matrices.
        published: name the layers of a block as their published files do, not as their present code does.
    """
    space = network.space
    if not isinstance(network, OFAMobileNetV3) or space.exits != (len(STAGES),) or space.paths != ((MAIN_PATH,),):
        raise UserError(
            f"MIT has no name for this network: only OFA-MobileNetV3 with {len(STAGES)} stages and one exit."
        )
    if network.dense or (len(space.kernel_sizes) > 1 and network.options["kernel_rule"] != "transform"):
        raise UserError("MIT has no name for dense skips, nor for kernels that are not made by the rule 'transform'.")
    elastic = replace(space, resolutions=space.resolutions[:1]).single() is None
    own = network.state_dict()
    out: dict[str, Tensor] = {}
    for ours, theirs in _tensor_names(network):
        tensor = own[ours].detach().cpu()
        tensor = tensor[..., None, None] if _is_conv_of_theirs(theirs) and tensor.ndim == 2 else tensor
        out[theirs] = tensor.clone()
    norms = {name for name, layer in network.elastic_layers() if isinstance(layer, ElasticBatchNorm)}
    out |= {f"{theirs}.{COUNTER}": torch.tensor(0) for ours, theirs in _layer_names(network) if ours in norms}
    out = {_elastic(name): tensor for name, tensor in out.items()} if elastic else out
    block = "mobile_inverted_conv" if published else "conv"
    return {re.sub(r"^(blocks\.\d+)\.conv\.", rf"\1.{block}.", name): tensor for name, tensor in out.items()}


def _is_conv_of_theirs(name: str) -> bool:
    return name.endswith(".weight") and (".se.fc." in name or name.startswith("feature_mix_layer."))
