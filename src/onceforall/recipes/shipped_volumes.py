"""The recipes that ship for medical volumes, as functions.

The recipes with the numbers of ProX (ICIP 2022) share these decisions: its cubes, into which volumes are stretched, its
batches of 8 in parts of 2, Adam with a constant rate, no augmentation, depth 1, and half the loss against labels and
half the squared distance of outputs to the teacher. They differ from its code where that is not sound: widths are drawn
for each section, as evaluation draws them; outputs are not clamped; the loss is Dice and cross-entropy, which learns
where a structure is absent, too; subjects of validation are none of those of test. `--set network.layout=published`,
`--set task.loss=dice` and `--set task.dice=sample` are the paper's.
"""

from collections.abc import Callable
from dataclasses import replace

from onceforall.data.volume_augmentation import NO_VOLUME_AUGMENTATION
from onceforall.recipes.values import DataOptions, NetworkOptions, Recipe, TaskOptions, VolumeFields
from onceforall.training.options import RunOptions

__all__ = ["VOLUME_RECIPES"]

STRETCHED = VolumeFields(fit="stretch", augmentation=NO_VOLUME_AUGMENTATION)


def hippocampus_quick() -> Recipe:
    """ProX's 3-D U-Net, 8 to 64 channels, on the MSD hippocampus volumes by progressive expansion, for a processor.

    Paper: ProX (ICIP 2022), ProX-MR, on a sound network. Command: `onceforall train hippocampus-quick --data
    Task04_Hippocampus --out runs/hippocampus`. Time and hardware: 81 minutes on one thread of an AMD EPYC beside other
    jobs, 65 of them on the processor. Metric: mean Dice of anterior and posterior on 40 held-out subjects: the mean of
    100 random sub-networks 0.871, the smallest 0.862, the largest 0.878, the best 0.879; the paper's is 0.408 at best.
    With `--set schedule.epochs_per_phase.width=120`, about twice the time: mean 0.876, smallest 0.867, largest, which
    is the best, 0.884. Kernels of 5 lost 0.003 (0.001 to 0.006), so the stop rule took their phase back. Most epochs go
    to widths, where networks are large and still cheap; at the rate of the other phases kernels of 5 would lose 0.02.
    """
    return Recipe(
        "hippocampus-quick",
        NetworkOptions(
            "prox_unet3d",
            width_mult=0.5,
            widths=(0.5, 1.0),
            kernel_sizes=(3, 5),
            expand_ratios=None,
            depths=(1, 2),
            resolutions=((40, 56, 40), (48, 64, 48)),
            poolings=3,
        ),
        DataOptions(kind="volumes", validation_fraction=0.1, test_fraction=0.2),
        task=TaskOptions(distance="mse"),
        schedule={
            "name": "progressive_expansion",
            "epochs_per_phase": {"smallest": 15, "depth": 20, "width": 60, "kernel": 10, "other": 20},
            "learning_rate": {"kernel": 5e-4, "other": 2e-3},
            "batch_size": 2,
        },
        phases={
            "all": {
                "optimizer": "adamw",
                "weight_decay": 1e-4,
                "decay": "cosine",
                "task_weight": 1.0,
                "distillation_weight": 0.1,
                "validate_every": 5,
                "stop_rule": {"action": "skip", "pairs": 4},
            }
        },
        run=RunOptions(calibration_images=24),
    )


def volumes_prox_mr() -> Recipe:
    """ProX's 3-D U-Net, 8 to 64 channels, on patches of any labelled volumes in the layout of MSD or nnU-Net.

    Paper: ProX (ICIP 2022), ProX-MR, on a sound network, with the numbers of `hippocampus-quick`. Training sees patches
    of 32 and 48 voxels a side, evaluation whole volumes window by window, so volumes may have any size; where their
    spacings differ, give one, as `--set data.volumes.spacing=[1,1,1]`. Command: `onceforall train volumes-prox-mr
    --data Task09_Spleen --out runs/volumes`. Time and hardware: that of `hippocampus-quick` where there are as many
    volumes, evaluation of large ones on top. Metric: Dice of each label on held-out subjects; not measured here.
    """
    quick = hippocampus_quick()
    return replace(
        quick,
        name="volumes-prox-mr",
        network=replace(quick.network, resolutions=(32, 48)),
        data=replace(quick.data, volumes=VolumeFields(mode="patches")),
    )


def hippocampus_prox_mr() -> Recipe:
    """ProX's 3-D U-Net on the MSD hippocampus volumes by progressive expansion with mixed resolutions.

    Paper: ProX (ICIP 2022), ProX-MR, its numbers: 3 phases of 10 epochs, Adam 1e-3, batches of 8 in parts of 2, cubes
    of 48, 64 and 80 voxels into which volumes are stretched, 16 to 128 channels, half or all of them. Differences: see
    `hippocampus-ps`. Command: `onceforall train hippocampus-prox-mr --data Task04_Hippocampus --out runs/hippocampus`.
    Time and hardware: the paper names none; not run here. Metric: Dice on held-out subjects; the paper's mean of 5,000
    sub-networks is 0.287.
    """
    return Recipe(
        "hippocampus-prox-mr",
        NetworkOptions(
            "prox_unet3d",
            widths=(0.5, 1.0),
            kernel_sizes=(3, 5),
            expand_ratios=None,
            depths=(1,),
            resolutions=(48, 64, 80),
            poolings=3,
        ),
        DataOptions(kind="volumes", validation_fraction=0.1, test_fraction=0.2, volumes=STRETCHED),
        task=TaskOptions(distance="mse"),
        schedule={
            "name": "progressive_expansion",
            "mode": "mixed",
            "epochs_per_phase": 10,
            "learning_rate": 1e-3,
            "batch_size": 8,
        },
        run=RunOptions(micro_batches=4, calibration_images=32),
    )


def hippocampus_prox_ir() -> Recipe:
    """ProX's 3-D U-Net on the MSD hippocampus volumes by progressive expansion with increasing resolution.

    Paper: ProX (ICIP 2022), ProX-IR: as `hippocampus-prox-mr`, but 5 phases of 10 epochs, the last two for 64 and 80
    voxels (`--set schedule.total_epochs=30` makes the epochs equal). Command: `onceforall train hippocampus-prox-ir
    --data Task04_Hippocampus --out runs/hippocampus-ir`. Time and hardware: the paper names none; not run here. Metric:
    Dice on held-out subjects; the paper's mean of 5,000 sub-networks is 0.408.
    """
    return _increasing(hippocampus_prox_mr(), "hippocampus-prox-ir")


def hippocampus_ps() -> Recipe:
    """ProX's 3-D U-Net on the MSD hippocampus volumes by progressive shrinking, what ProX is compared with.

    Paper: Once-for-All (ICLR 2020) with the numbers of ProX (ICIP 2022): 3 phases of 10 epochs, Adam 1e-3, batches of
    8. Faithful to the former where the latter's code is not: kernel matrices start as the identity and are trained
    together with the kernel, channels are sorted without changing the function, the teacher stays fixed. All six of
    these recipes draw a width for each section, have a linear head and learn by Dice and cross-entropy, with subjects
    of validation that are none of test; `--set network.layout=published`, `--set task.loss=dice` and `--set
    task.dice=sample` are the paper's. Command: `onceforall train hippocampus-ps --data Task04_Hippocampus --out
    runs/hippocampus-ps`. Time and hardware: the paper names none; not run here. Metric: Dice on held-out subjects; the
    paper's mean of 5,000 sub-networks is 0.246.
    """
    return _shrinking(hippocampus_prox_mr(), "hippocampus-ps", total_epochs=30)


def brats_prox_mr() -> Recipe:
    """ProX's 3-D U-Net on the MSD brain tumours by progressive expansion with mixed resolutions.

    Paper: ProX (ICIP 2022), ProX-MR, its numbers: 3 phases of 15 epochs, Adam 1e-3, batches of 8 in parts of 2, cubes
    of 80, 96 and 112 voxels into which heads are cut and stretched, four modalities, 16 to 256 channels, half or all
    of them, the regions whole tumour, core and enhancing. Differences: see `hippocampus-ps`. The prepared volumes take
    13 MB of disk each. Command: `onceforall train brats-prox-mr --data Task01_BrainTumour --out runs/brats`. Time and
    hardware: the paper names none; not run here. Metric: Dice of the regions on held-out subjects; the paper's mean of
    5,000 sub-networks is 0.424.
    """
    recipe = hippocampus_prox_mr()
    return replace(
        recipe,
        name="brats-prox-mr",
        network=replace(recipe.network, resolutions=(80, 96, 112), poolings=4),
        data=replace(recipe.data, volumes=replace(STRETCHED, scheme="brats_regions", foreground_crop=True)),
        schedule={**recipe.schedule, "epochs_per_phase": 15},
    )


def brats_prox_ir() -> Recipe:
    """ProX's 3-D U-Net on the MSD brain tumours by progressive expansion with increasing resolution.

    Paper: ProX (ICIP 2022), ProX-IR: as `brats-prox-mr`, but 5 phases of 15 epochs, the last two for 96 and 112 voxels
    (`--set schedule.total_epochs=45` makes the epochs equal). Command: `onceforall train brats-prox-ir --data
    Task01_BrainTumour --out runs/brats-ir`. Time and hardware: the paper names none; not run here. Metric: Dice of the
    regions on held-out subjects; the paper's mean of 5,000 sub-networks is 0.469.
    """
    return _increasing(brats_prox_mr(), "brats-prox-ir")


def brats_ps() -> Recipe:
    """ProX's 3-D U-Net on the MSD brain tumours by progressive shrinking, what ProX is compared with.

    Paper: Once-for-All (ICLR 2020) with the numbers of ProX (ICIP 2022): 3 phases of 15 epochs, otherwise as
    `hippocampus-ps`. Command: `onceforall train brats-ps --data Task01_BrainTumour --out runs/brats-ps`. Time and
    hardware: the paper names none; not run here. Metric: Dice of the regions on held-out subjects; the paper's mean of
    5,000 sub-networks is 0.379.
    """
    return _shrinking(brats_prox_mr(), "brats-ps", total_epochs=45)


def _increasing(recipe: Recipe, name: str) -> Recipe:
    return replace(recipe, name=name, schedule={**recipe.schedule, "mode": "increasing"})


def _shrinking(recipe: Recipe, name: str, total_epochs: int) -> Recipe:
    """The baseline of a recipe by expansion: as many epochs for each phase, its batches, rate, optimiser and losses."""
    numbers = {key: recipe.schedule[key] for key in ("learning_rate", "batch_size")}
    numbers |= {"optimizer": "adam", "decay": "constant", "weight_decay": 0.0}
    losses = {"task_weight": 0.5, "distillation_weight": 0.5, "dropout": 0.0}
    return replace(
        recipe,
        name=name,
        network=replace(recipe.network, kernel_rule="transform"),
        schedule={"name": "progressive_shrinking", "rows": "even", "total_epochs": total_epochs},
        phases={"all": {**numbers, **losses}},
    )


VOLUME_RECIPES: dict[str, Callable[[], Recipe]] = {
    "hippocampus-quick": hippocampus_quick,
    "hippocampus-prox-mr": hippocampus_prox_mr,
    "hippocampus-prox-ir": hippocampus_prox_ir,
    "hippocampus-ps": hippocampus_ps,
    "brats-prox-mr": brats_prox_mr,
    "brats-prox-ir": brats_prox_ir,
    "brats-ps": brats_ps,
    "volumes-prox-mr": volumes_prox_mr,
}
"""Recipes by name."""
