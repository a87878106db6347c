"""An exported network as an object that answers to images or volumes."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from onceforall.bundles import open_bundle
from onceforall.data.label_schemes import LabelScheme
from onceforall.data.preparation import Preparation, prepare
from onceforall.data.volumes import VolumePreparation, network_volume, pad_to, prepare_volume, to_original
from onceforall.errors import UserError
from onceforall.predict.parts import run_parts, sigmoid, softmax
from onceforall.predict.windows import answer_in_windows

__all__ = ["Predictor"]

Image = str | Path | bytes | np.ndarray


@final
class Predictor:
    """The network of a bundle, which `onceforall export` wrote; what goes in and comes out is as in evaluation.

        predictor = Predictor("runs/photos/bundle-onnx-fp32")
        labels = predictor.predict_volume(volume, affine)    # of a segmentation
        probabilities = predictor.predict_image("scan.png")  # of a classification

    Args:
        path: the folder of the bundle; its files are compared with their checksums.
        threads: of the processor; 0: as many as the engine likes.

    It has `info`, what `model.json` says, `classes`, the names of the outputs, `size`, the grid that the network reads,
    and `segments`, whether it labels the voxels of volumes. Raises `UserError` for another folder, a changed file, and
    where the engine is not installed.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.path = Path(path)
        self._bundle = open_bundle(self.path, threads)
        self.info = self._bundle.about
        self.classes: tuple[str, ...] = tuple(self.info["classes"])
        self.size: tuple[int, ...] = tuple(self.info["input"]["size"])
        self.segments: bool = self.info["task"]["kind"] == "segmentation"

    @property
    def channels(self) -> int:
        """Number of channels (modalities) that the network reads."""
        return self.info["input"]["channels"]

    def prepare_image(self, image: Image, name: str = "") -> np.ndarray:
        """(channels, *size) float32, what the network reads, of a file, its bytes or its pixels (H, W, C).

        Pixels are uint8 or uint16. `name` stands for the file in errors. Raises `UserError` where the image cannot be
        read, or the network is one for volumes.
        """
        if self.segments:
            raise UserError(f"{self.path} labels volumes; give NIfTI files, in Python to predict_volume.")
        source = Path(image) if isinstance(image, str) else image
        return prepare(source, Preparation.from_dict(self.info["preparation"]), self.size[0], name)

    def classify(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, classes) float32 of prepared images (N, channels, *size), and which part answered, (N,).

        The part is 0 for all images unless the bundle has several, of which later ones run for uncertain images only.
        """
        outputs, parts = self._run(inputs)
        return softmax(outputs), parts

    def predict_image(self, image: Image, name: str = "") -> np.ndarray:
        """(classes,) float32 probabilities of one image; arguments and errors are those of `prepare_image`."""
        return self.classify(self.prepare_image(image, name)[None])[0][0]

    def predict_images(self, images: Sequence[Image]) -> np.ndarray:
        """(N, classes) float32 probabilities of images, in one batch; see `prepare_image`."""
        return self.classify(np.stack([self.prepare_image(image) for image in images]))[0]

    def predict_volume(self, volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """(X, Y, Z) uint8 label values, as they stood in the label files of training, on the grid of the volume.

        Args:
            volume: (channels, X, Y, Z), or (X, Y, Z) for one channel, of any orientation and spacing.
            affine: (4, 4), from voxels to mm, as NIfTI files have it.

        Raises `UserError` for a volume that cannot be prepared, and where the network is one for images.
        """
        return self._scheme().to_labels(self.volume_probabilities(volume, affine))

    def volume_probabilities(self, volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """(classes, X, Y, Z) float32 on the grid of the volume, 0 where the network saw nothing of it.

        Arguments and errors are those of `predict_volume`.
        """
        scheme = self._scheme()
        volume = np.asarray(volume, np.float32)
        preparation = VolumePreparation.from_dict(self.info["preparation"])
        volume = volume[None] if volume.ndim == 3 else volume
        prepared, geometry = prepare_volume(volume, np.asarray(affine, np.float64), preparation)
        prepared = prepared.astype(np.float16).astype(np.float32)  # the precision in which volumes are cached
        if preparation.box is None:
            x, y, z = self.size
            padded = pad_to(prepared, (x, y, z), 0.0)
            outputs = answer_in_windows(lambda window: self._run(window)[0], padded, self.size)[None]
        else:
            outputs, _ = self._run(network_volume(prepared, self.size)[None])
        if not np.isfinite(outputs).all():
            raise UserError(f"{self.path} answers with numbers that are not finite: did the network diverge?")
        maps = sigmoid(outputs) if scheme.kind == "regions" else softmax(outputs)  # (1, classes, *grid)
        return to_original(maps[0], geometry)

    def _scheme(self) -> LabelScheme:
        if not self.segments:
            raise UserError(f"{self.path} classifies images; give image files, in Python to predict_image.")
        return LabelScheme.from_dict(self.info["task"]["scheme"])

    def _run(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, channels, *size) -> raw outputs (N, classes, ...) and the part that answered each."""
        parts, info = self._bundle.parts, self.info
        return run_parts(parts, np.asarray(inputs, np.float32), info["thresholds"], info["exit_weights"])
