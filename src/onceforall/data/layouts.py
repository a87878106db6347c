"""Which layout a folder of images has, and its files as that layout tells them."""

from pathlib import Path

from onceforall.data.assembly import DataOptions
from onceforall.data.folder import list_folder
from onceforall.data.listing import Listing, existing_folder
from onceforall.data.retinal_oct import is_retinal_oct, list_retinal_oct
from onceforall.data.tiny_imagenet import is_tiny_imagenet, list_tiny_imagenet
from onceforall.errors import UserError

__all__ = ["check_layout", "list_images", "say_kind"]


def say_kind(path: str | Path | None, kind: str) -> str:
    """The `kind` of images at `path`: for "auto" as the folder looks, "digits" where there is none.

    Raises `UserError` for a folder of volumes, for digits with a path and for anything else without one.
    """
    if kind == "auto":
        return "digits" if path is None else _detect(path)
    if kind == "digits" and path is not None:
        raise UserError(f"kind 'digits' is built in and takes no path; got {str(path)!r}.")
    if kind != "digits" and path is None:
        raise UserError(f"kind {kind!r} needs the path of a folder; got none.")
    return kind


def _detect(path: str | Path) -> str:
    root = existing_folder(path)
    if (root / "imagesTr").is_dir():
        raise UserError(
            f"data folder {str(path)!r} holds volumes; load it by load_volumes, in a recipe by kind 'volumes'."
        )
    if is_retinal_oct(root):
        return "retinal_oct"
    return "tiny_imagenet" if is_tiny_imagenet(root) else "folder"


def check_layout(kind: str, options: DataOptions) -> None:
    """Raise `UserError` for options that images of this kind do not have."""
    own = options.train_per_class, options.validation_per_class, options.rest_to_test
    if kind != "tiny_imagenet" and own != (None, None, True):
        raise UserError("train_per_class, validation_per_class and rest_to_test apply to kind 'tiny_imagenet' only.")
    if kind != "digits" and options.channels not in (None, 1, 3):
        raise UserError(f"channels {options.channels!r} is not possible for image files; give 1 or 3, or leave it out.")


def list_images(path: str | Path, kind: str, options: DataOptions) -> Listing:
    """The files in a folder of a `kind` that is neither "auto" nor "digits". Raises `UserError`."""
    check_layout(kind, options)
    if kind == "tiny_imagenet":
        per_class = options.train_per_class, options.validation_per_class, options.rest_to_test
        return list_tiny_imagenet(path, options.classes, *per_class, seed=options.seed)
    if kind == "retinal_oct":
        return list_retinal_oct(path, options.classes, patients=not options.has_groups)
    return list_folder(path, options.classes)
