"""Folders of labelled volumes as the Medical Segmentation Decathlon and nnU-Net lay them out.

`imagesTr` and `labelsTr` hold NIfTI files, a label named as its subject. The modalities of a subject are the fourth
axis of one file `<subject>.nii.gz`, or files of their own, `<subject>_0000.nii.gz`, `<subject>_0001.nii.gz`, ...
`dataset.json`, where there is one, names modalities and classes; its list `training` says which subjects count.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from onceforall.data.label_schemes import scheme_from_labels
from onceforall.data.listing import files_below
from onceforall.data.nifti import NIFTI_SUFFIXES, nifti_stem
from onceforall.errors import UserError, suggestion

__all__ = ["VolumeListing", "is_volume_folder", "list_volumes"]

IMAGES, LABELS, DESCRIPTION = "imagesTr", "labelsTr", "dataset.json"
MODALITY = re.compile(r"(.+)_(\d{4})")
DICOM_LOOKED_AT = 20  # files of a folder without NIfTI that are opened to see what they are


@final
@dataclass(frozen=True)
class VolumeListing:
    """The labelled subjects of a folder; all file names are relative to `root`, with `/`.

    `images[i]` are the files of subject i (one, or one for each modality), `labels[i]` its label. `modalities` is
    empty and `classes` None where no `dataset.json` names them. `problems` name what keeps subjects from being
    complete, a file and the remedy each; incomplete subjects are not listed. `unlisted` are files that are not used.
    """

    name: str
    root: Path
    subjects: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    modalities: tuple[str, ...]
    classes: Mapping[str, Any] | None
    problems: tuple[str, ...]
    unlisted: tuple[str, ...]


def is_volume_folder(root: Path) -> bool:
    """Whether a folder looks like one of volumes: `imagesTr`, NIfTI files or a DICOM series."""
    if (root / IMAGES).is_dir():
        return True
    names = [path.name for path in sorted(root.iterdir()) if path.is_file()]
    return any(name.lower().endswith(NIFTI_SUFFIXES) for name in names) or _dicom_file(root) is not None


def list_volumes(path: str | Path) -> VolumeListing:
    """What a folder holds; nothing but names and `dataset.json` is read. Raises `UserError` for any other folder."""
    root = Path(path).expanduser()
    if not root.is_dir():
        near = suggestion(root.name, [p.name for p in root.parent.iterdir()]) if root.parent.is_dir() else ""
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"data folder {str(path)!r} {what}; give a folder with {IMAGES} and {LABELS}.{near}")
    root = root.resolve()
    for folder in (root, root / IMAGES):
        if (found := _dicom_file(folder)) is not None:
            raise UserError(
                f"data folder {str(folder)!r} holds DICOM files ({found}), which are not read; convert each series "
                f"with dcm2niix -z y, and put the NIfTI files into {IMAGES} and their labels into {LABELS}."
            )
    for name in (IMAGES, LABELS):
        if not (root / name).is_dir():
            raise UserError(f"data folder {str(path)!r} has no folder {name}; give one with {IMAGES} and {LABELS}.")
    described = _description(root)
    problems: list[str] = []
    images, labels = _by_stem(root, IMAGES, problems), _by_stem(root, LABELS, problems)
    if not images:
        raise UserError(f"{str(root / IMAGES)!r} holds no NIfTI files; put .nii or .nii.gz files there.")
    names = described.get("channel_names") or described.get("modality") or {}
    modalities = tuple(str(names[key]) for key in sorted(names, key=int))
    if "channel_names" in described or any(f"{stem}_0000" in images for stem in labels):
        subjects, modalities = _with_modalities(images, modalities, problems)
    else:
        subjects = {stem: (file,) for stem, file in images.items()}
    listed = _listed(described)
    kept = [s for s in sorted(subjects) if (listed is None or s in listed) and s in labels]
    for subject in sorted(listed or ()):
        if subject not in subjects:
            problems.append(f"{IMAGES}/{subject}: is listed in {DESCRIPTION}, but missing; add it or take it off")
    for subject in sorted(s for s in subjects if s not in labels and (listed is None or s in listed)):
        problems.append(f"{subjects[subject][0]}: has no label; add {LABELS}/{subject}.nii.gz or remove the image")
    for subject in sorted(s for s in labels if s not in subjects and (listed is None or s in listed)):
        problems.append(f"{labels[subject]}: has no image; add it to {IMAGES} or remove the label")
    unlisted = [] if listed is None else [subjects[s][0] for s in sorted(subjects) if s not in listed]
    return VolumeListing(
        name=str(described.get("name") or root.name),
        root=root,
        subjects=tuple(kept),
        images=tuple(subjects[s] for s in kept),
        labels=tuple(labels[s] for s in kept),
        modalities=modalities,
        classes=described.get("labels"),
        problems=tuple(problems),
        unlisted=tuple(unlisted),
    )


def _description(root: Path) -> dict[str, Any]:
    path = root / DESCRIPTION
    if not path.exists():
        return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)!r} cannot be read as JSON ({error}); correct or remove it.") from None
    for key in ("channel_names", "modality", "labels"):
        if not isinstance(described, dict) or not isinstance(described.get(key, {}), dict):
            raise UserError(f"{str(path)!r}: {key} must be an object, as in {{'0': 'MRI'}}; correct it.")
        if key != "labels" and not all(str(number).isdecimal() for number in described.get(key, {})):
            raise UserError(f"{str(path)!r}: the keys of {key} must be whole numbers, as in {{'0': 'MRI'}}.")
    _check_region_order(path, described)
    return described


def _check_region_order(path: Path, described: Mapping[str, Any]) -> None:
    """Refuse nnU-Net's `regions_class_order` where it wants other label values written than `LabelScheme` writes."""
    order, labels = described.get("regions_class_order"), described.get("labels", {})
    if order is None:
        return
    scheme = scheme_from_labels(labels)
    written = dict(zip(scheme.outputs, scheme.written, strict=True))
    ours = [written[name] for name in labels if name in scheme.foreground]
    if scheme.kind == "regions" and order != ours:
        raise UserError(
            f"{str(path)!r}: regions_class_order is {order}, but for these regions {ours} is written, the lowest value "
            "that no smaller region has; correct it or take it out."
        )


def _by_stem(root: Path, folder: str, problems: list[str]) -> dict[str, str]:
    """Stem -> file (relative to the root) of the NIfTI files directly in a folder."""
    found: dict[str, str] = {}
    for file in files_below(root / folder):
        stem = nifti_stem(file)
        if "/" in file or not file.lower().endswith(NIFTI_SUFFIXES):
            continue
        if stem in found:
            problems.append(f"{folder}/{file}: stands there as {found[stem]} too; remove one of the two")
        found.setdefault(stem, f"{folder}/{file}")
    return found


def _with_modalities(
    images: dict[str, str], modalities: tuple[str, ...], problems: list[str]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Subject -> its files in the order of the modalities; subjects that lack one become problems."""
    files: dict[str, dict[int, str]] = {}
    for stem, file in images.items():
        match = MODALITY.fullmatch(stem)
        if match is None:
            problems.append(f"{file}: has no number of a modality; name it {stem}_0000.nii.gz")
        else:
            files.setdefault(match.group(1), {})[int(match.group(2))] = file
    count = len(modalities) or 1 + max((max(own) for own in files.values()), default=0)
    modalities = modalities or tuple(f"channel {i}" for i in range(count))
    for subject, own in files.items():
        for i in range(count):
            if i not in own:
                missing = f"{IMAGES}/{subject}_{i:04d}.nii.gz"
                problems.append(f"{missing}: modality {modalities[i]} is missing; add it or remove {subject}")
        for i in sorted(number for number in own if number >= count):
            problems.append(f"{own[i]}: {DESCRIPTION} names {count} modalities only; remove it or name modality {i}")
    whole = {s: tuple(own[i] for i in range(count)) for s, own in files.items() if sorted(own) == list(range(count))}
    return whole, modalities


def _listed(described: Mapping[str, Any]) -> set[str] | None:
    """The subjects in the list `training`; None where there is none."""
    entries = described.get("training")
    if not isinstance(entries, list) or not entries:
        return None
    files = [entry.get("image") if isinstance(entry, dict) else entry for entry in entries]
    if not all(isinstance(file, str) for file in files):
        raise UserError(f"{DESCRIPTION}: entries of 'training' must be {{'image': ..., 'label': ...}}; correct them.")
    return {nifti_stem(str(file)) for file in files}


def _dicom_file(folder: Path) -> str | None:
    """The name of a DICOM file in a folder or the folders in it, where it has no NIfTI files; otherwise None."""
    if not folder.is_dir():
        return None
    files = files_below(folder)
    if any(file.lower().endswith(NIFTI_SUFFIXES) for file in files):
        return None
    unknown = [file for file in files if "." not in file.rsplit("/", 1)[-1] or file.lower().endswith((".dcm", ".ima"))]
    for file in unknown[:DICOM_LOOKED_AT]:
        if file.lower().endswith(".dcm") or _is_dicom(folder / file):
            return file
    return None


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False
