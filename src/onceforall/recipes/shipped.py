"""The recipes that ship, as functions; those for volumes are in `shipped_volumes`."""

from collections.abc import Callable
from dataclasses import replace

from onceforall.data import Augmentation
from onceforall.recipes.shipped_volumes import VOLUME_RECIPES
from onceforall.recipes.values import DataOptions, NetworkOptions, Recipe, TaskOptions
from onceforall.training.options import RunOptions

__all__ = ["RECIPES"]

PROX_TASK = TaskOptions(label_smoothing=0.0, distance="mse")
"""ProX's losses: cross-entropy, and the squared difference of raw outputs."""


def digits_ps() -> Recipe:
    """A small elastic network on the built-in digits by progressive shrinking.

    Paper: Once-for-All (ICLR 2020), its schedule scaled down. Command: `onceforall train digits-ps --out runs/digits`.
    Time and hardware: about 2 minutes on one processor core. Metric: accuracy on held-out digits, at least 0.97 for
    the largest and 0.94 for the smallest sub-network.
    """
    return Recipe(
        "digits-ps",
        NetworkOptions(
            width_mult=0.5, kernel_sizes=(3, 5), expand_ratios=(3, 4, 6), depths=(1, 2), resolutions=(24, 32)
        ),
        DataOptions(kind="digits", augmentation=Augmentation(scale=(0.85, 1.0), horizontal_flip=False)),
        schedule={"name": "progressive_shrinking", "total_epochs": 60},
        phases={"all": {"validate_every": 4}},
        run=RunOptions(calibration_images=256, threads=1),  # so small a network gains nothing from a second thread
    )


def digits_sandwich() -> Recipe:
    """The same network on digits by the sandwich rule.

    Paper: US-Nets (ICCV 2019), BigNAS (ECCV 2020). Command: `onceforall train digits-sandwich --out runs/digits-sw`.
    Time and hardware: about 2 minutes on 2 processor cores. Metric: accuracy on held-out digits.
    """
    schedule = {"name": "sandwich", "total_epochs": 24}
    return replace(digits_ps(), name="digits-sandwich", schedule=schedule)


def images_ps() -> Recipe:
    """OFA-MobileNetV3 at width 0.5 on a folder of images by progressive shrinking, for a few thousand images.

    Paper: Once-for-All (ICLR 2020), its schedule scaled to 64 epochs and one sub-network a step.
    Command: `onceforall train images-ps --data photos --out runs/photos`. Time and hardware: 28 minutes for 2,100
    grey images of 64 pixels on one thread of a busy AMD EPYC. Metric: accuracy on 450 held-out images of six kinds
    of medical images; largest 0.993, smallest 0.989, mean of 50 random sub-networks 0.993 (with 28 epochs, in
    6 minutes: 0.989, 0.973, 0.988).
    """
    return Recipe(
        "images-ps",
        NetworkOptions(width_mult=0.5),
        DataOptions(crop_ratio=1.0),
        schedule={"name": "progressive_shrinking", "total_epochs": 64},
        phases={"all": {"validate_every": 4}},
    )


def images_sandwich() -> Recipe:
    """OFA-MobileNetV3 at width 0.5 on a folder of images by the sandwich rule.

    Paper: US-Nets (ICCV 2019), BigNAS (ECCV 2020), with the largest, the smallest and two random sub-networks a step.
    Command: `onceforall train images-sandwich --data photos --out runs/photos-sandwich`. Time and hardware: with
    `--set schedule.subnets_per_step=1`, 19 minutes for 2,100 grey images of 64 pixels on one thread of a busy AMD
    EPYC; not timed with four. Metric: accuracy on the same 450 images, one sub-network a step: largest 0.993,
    smallest 0.991, mean of 50 random sub-networks 0.991.
    """
    return replace(images_ps(), name="images-sandwich", schedule={"name": "sandwich", "total_epochs": 64})


def digits_prox() -> Recipe:
    """ProX's MobileNet, small, on the built-in digits by progressive expansion with increasing resolution.

    Paper: ProX (ICIP 2022), its schedule scaled down. Command: `onceforall train digits-prox --out runs/digits-prox`.
    Time and hardware: about 2 minutes on one processor core. Metric: accuracy on held-out digits.
    """
    network = replace(digits_ps().network, name="prox_mobilenet", width_mult=0.25)
    schedule = {"name": "progressive_expansion", "mode": "increasing", "total_epochs": 60}
    return replace(digits_ps(), name="digits-prox", network=network, task=PROX_TASK, schedule=schedule)


def images_prox_mr() -> Recipe:
    """ProX's MobileNet at width 0.5 on a folder of images by progressive expansion with mixed resolutions.

    Paper: ProX (ICIP 2022), ProX-MR, its schedule scaled to 64 epochs. Command: `onceforall train images-prox-mr --data
    photos --out runs/photos`. Time and hardware: with width 0.25 and 28 epochs, 6 minutes for 2,100 grey images of 64
    pixels on one thread of an AMD EPYC (progressive shrinking of the same network: 11); longer as it is. Metric:
    accuracy on 450 held-out images, mean of 30 sub-networks of that run: 0.985 (shrinking: 0.982).
    """
    return replace(
        images_ps(),
        name="images-prox-mr",
        network=NetworkOptions("prox_mobilenet", width_mult=0.5, depths=(1, 2, 3)),
        task=PROX_TASK,
        schedule={"name": "progressive_expansion", "total_epochs": 64},
    )


def images_prox_ir() -> Recipe:
    """ProX's MobileNet at width 0.5 on a folder of images by progressive expansion with increasing resolution.

    Paper: ProX (ICIP 2022), ProX-IR, its schedule scaled to 64 epochs. Command: `onceforall train images-prox-ir --data
    photos --out runs/photos`. Time and hardware: with width 0.25 and 28 epochs, 4 minutes for 2,100 grey images of 64
    pixels on one thread of an AMD EPYC; longer as it is. Metric: accuracy on 450 held-out images, mean of 30
    sub-networks of that run: 0.978.
    """
    schedule = {"name": "progressive_expansion", "mode": "increasing", "total_epochs": 64}
    return replace(images_prox_mr(), name="images-prox-ir", schedule=schedule)


def oct_prox_mr() -> Recipe:
    """ProX's MobileNet on retinal OCT by progressive expansion with mixed resolutions.

    Paper: ProX (ICIP 2022), ProX-MR, its numbers: 7 phases of 10 epochs, Adam 5e-4, batches of 384 in parts of 48, no
    augmentation. Differences: the network's sound layout (`--set network.layout=published` is the paper's), classes
    drawn equally often instead of cut to the smallest, patients kept apart. Command: `onceforall train oct-prox-mr
    --data OCT2017 --out runs/oct-prox-mr`; a `val` folder of 32 images, as the set has it, is too small to choose by:
    rename it, and 15 % of the images validate. Time and hardware: the paper names 3.75 hours on two Tesla P100; not run
    on the full set here. Metric: accuracy on the 1,000 test images; the paper's mean of 11,000 sub-networks is 0.992.
    """
    return Recipe(
        "oct-prox-mr",
        NetworkOptions("prox_mobilenet", depths=(1, 2, 3), resolutions=(160, 192, 224)),
        DataOptions(
            kind="retinal_oct",
            channels=1,
            fit="stretch",
            augmentation=Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), horizontal_flip=False),
        ),
        task=PROX_TASK,
        schedule={
            "name": "progressive_expansion",
            "mode": "mixed",
            "learning_rate": 5e-4,
            "batch_size": 384,
            "freeze_earlier_blocks": "depth",
        },
        run=RunOptions(micro_batches=8, balance="classes", validation_images=2000),
    )


def oct_prox_ir() -> Recipe:
    """ProX's MobileNet on retinal OCT by progressive expansion with increasing resolution.

    Paper: ProX (ICIP 2022), ProX-IR: as `oct-prox-mr`, but 9 phases of 10 epochs, the last two for 192 and 224 pixels
    (`--set schedule.total_epochs=70` makes the epochs equal). Command: `onceforall train oct-prox-ir --data OCT2017
    --out runs/oct-prox-ir`. Time and hardware: the paper names 3 hours on two Tesla P100; not run on the full set here.
    Metric: accuracy on the 1,000 test images; the paper's mean of 11,000 sub-networks is 0.977.
    """
    schedule = {**oct_prox_mr().schedule, "mode": "increasing"}
    return replace(oct_prox_mr(), name="oct-prox-ir", schedule=schedule)


def oct_ps() -> Recipe:
    """ProX's MobileNet on retinal OCT by progressive shrinking, what ProX is compared with.

    Paper: Once-for-All (ICLR 2020) with the numbers of ProX (ICIP 2022): Adam 5e-4, batches of 384, half the loss
    against labels and half the squared distance to the largest network, 70 epochs in all as `oct-prox-mr` has. Faithful
    to the former where the latter's code is not: kernel matrices start as the identity and are trained together with
    the kernel, channels are sorted without changing the function, the teacher stays fixed.
    Command: `onceforall train oct-ps --data OCT2017 --out runs/oct-ps`. Time and hardware: the paper names 9 hours on
    two Tesla P100; not run on the full set here. Metric: accuracy on the 1,000 test images; the paper's mean of 11,000
    sub-networks is 0.942.
    """
    common = {"learning_rate": 5e-4, "batch_size": 384, "optimizer": "adam", "decay": "constant", "weight_decay": 0.0}
    losses = {"task_weight": 0.5, "distillation_weight": 0.5, "dropout": 0.0}
    return replace(
        oct_prox_mr(),
        name="oct-ps",
        network=replace(oct_prox_mr().network, kernel_rule="transform"),
        schedule={"name": "progressive_shrinking", "total_epochs": 70},
        phases={"all": {**common, **losses}},
    )


def tiny_imagenet_eps() -> Recipe:
    """OFAv2's best network, early exits and dense skips, on Tiny ImageNet by extended progressive shrinking.

    Paper: OFAv2 (2023), section IV; Table III. Command: `onceforall train tiny-imagenet-eps --data tiny-imagenet-200
    --out runs/tiny`; `--set network.name=ofa_mbv3 --set schedule.teacher=fixed` is the paper's baseline. Time and
    hardware: the paper names 1.5 days on one Quadro RTX 6000; not run here. Metric: top-1 accuracy on the official
    validation images; the paper's best sub-network reaches 0.519 (0.442 on average), its baseline's 0.398.
    """
    return Recipe(
        "tiny-imagenet-eps",
        NetworkOptions("ee_d_ofa_mbv3", resolutions=(48, 52, 56, 60, 64)),
        DataOptions(kind="tiny_imagenet"),
        schedule={"name": "extended_progressive_shrinking", "rows": "paper"},
        run=RunOptions(calibration_images=1000),
    )


def digits_eps() -> Recipe:
    """A small network with early exits and dense skips on the built-in digits by extended progressive shrinking.

    Paper: OFAv2 (2023), its schedule scaled down. Command: `onceforall train digits-eps --out runs/digits-eps`. Time
    and hardware: about 2 minutes on one processor core. Metric: accuracy on held-out digits.
    """
    return replace(
        digits_ps(),
        name="digits-eps",
        network=replace(digits_ps().network, name="ee_d_ofa_mbv3", width_mult=0.35),
        schedule={"name": "extended_progressive_shrinking", "total_epochs": 60},
        run=replace(digits_ps().run, extreme_validation=8),
    )


def imagenet_ps() -> Recipe:
    """OFA-MobileNetV3 on ImageNet by progressive shrinking with the paper's numbers.

    Paper: Once-for-All (ICLR 2020), section 4.1; the full network's learning rate is that of the only other published
    configuration. Command: `torchrun --nproc-per-node 8 -m onceforall train imagenet-ps --data imagenet --out
    runs/imagenet`. Time and hardware: the paper names 1,200 V100 hours; not run here. Metric: top-1 accuracy; the
    paper's largest sub-network reaches about 0.77 at width 1.0.
    """
    return Recipe(
        "imagenet-ps",
        NetworkOptions(resolutions=tuple(range(128, 225, 4))),
        DataOptions(
            kind="folder",
            image_size=256,
            validation_fraction=0.008,
            augmentation=Augmentation(scale=(0.08, 1.0), brightness=32 / 255, saturation=0.5),
        ),
        schedule={"name": "progressive_shrinking", "rows": "paper"},
        run=RunOptions(precision="bf16", micro_batches=32, calibration_images=2000, checkpoint_every=500),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits-ps": digits_ps,
    "digits-eps": digits_eps,
    "digits-prox": digits_prox,
    "digits-sandwich": digits_sandwich,
    "images-ps": images_ps,
    "images-prox-mr": images_prox_mr,
    "images-prox-ir": images_prox_ir,
    "images-sandwich": images_sandwich,
    "oct-prox-mr": oct_prox_mr,
    "oct-prox-ir": oct_prox_ir,
    "oct-ps": oct_ps,
    **VOLUME_RECIPES,
    "tiny-imagenet-eps": tiny_imagenet_eps,
    "imagenet-ps": imagenet_ps,
}
"""Recipes by name."""
