"""Small folders of labelled volumes, written as NIfTI files."""

import json
from pathlib import Path

import nibabel
import numpy as np


def head(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume (X, Y, Z) float32 of noise with two bright boxes, and the label volume of these boxes (1 and 2)."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    x, y, z = (side // 2 for side in shape)
    labels[x - 2 : x + 1, y - 2 : y + 2, z - 3 : z] = 1
    labels[x - 2 : x + 1, y - 2 : y + 2, z : z + 2] = 2
    volume = 100.0 + 10.0 * generator.standard_normal(shape) + 50.0 * labels
    return volume.astype(np.float32), labels


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def make_volumes(root: Path, count: int = 4, shape: tuple[int, int, int] = (9, 10, 11)) -> Path:
    """`imagesTr/s<i>.nii.gz`, `labelsTr/s<i>.nii.gz` and `dataset.json` in `root`; one modality, two classes."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        volume, labels = head((shape[0] + i % 2, shape[1], shape[2]), i)
        save_nifti(root / "imagesTr" / f"s{i}.nii.gz", volume)
        save_nifti(root / "labelsTr" / f"s{i}.nii.gz", labels)
    labels = {"0": "background", "1": "front", "2": "back"}
    (root / "dataset.json").write_text(json.dumps({"name": "Heads", "modality": {"0": "MRI"}, "labels": labels}))
    return root
