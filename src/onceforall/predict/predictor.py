"""An exported network as an object that answers to images or volumes."""

from pathlib import Path
from typing import final

import numpy as np

from onceforall.data.label_schemes import LabelScheme
from onceforall.data.preparation import Preparation, prepare
from onceforall.data.volumes import VolumePreparation, network_volume, pad_to, prepare_volume, to_original
from onceforall.errors import UserError
from onceforall.onnx_files import INPUT, open_exported
from onceforall.predict.windows import answer_in_windows

__all__ = ["Predictor"]


@final
class Predictor:
    """A network in a file that `onceforall export` wrote; what goes in and comes out is as in evaluation.

        predictor = Predictor("model.onnx")
        labels = predictor.predict_volume(volume, affine)    # of a segmentation
        probabilities = predictor.predict_image("scan.png")  # of a classification

    Args:
        path: the file.
        threads: of the processor; 0: one for each core.

    It has `info`, what the file says (`read_onnx_info`), `classes`, the names of the outputs, `size`, the grid that
    the network reads, and `segments`, whether it labels the voxels of volumes. Raises `UserError` for another file.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.path = Path(path)
        self._session, self.info = open_exported(self.path, threads)
        self.classes: tuple[str, ...] = tuple(self.info["classes"])
        self.size: tuple[int, ...] = tuple(self.info["input"]["size"])
        self.segments: bool = self.info["task"]["kind"] == "segmentation"

    @property
    def channels(self) -> int:
        """Number of channels (modalities) that the network reads."""
        return self.info["input"]["channels"]

    def predict_image(self, image: str | Path | bytes | np.ndarray, name: str = "") -> np.ndarray:
        """(classes,) float32 probabilities of a file, its bytes or its pixels (H, W, C) uint8 or uint16.

        `name` stands for the file in errors. Raises `UserError` where the image cannot be read, or the network is one
        for volumes.
        """
        if self.segments:
            raise UserError(f"{self.path} labels volumes; give NIfTI files, in Python to predict_volume.")
        source = Path(image) if isinstance(image, str) else image
        preparation = Preparation.from_dict(self.info["preparation"])
        logits = self._run(prepare(source, preparation, self.size[0], name)[None])
        return _softmax(logits[0])

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
            outputs = answer_in_windows(self._run, pad_to(prepared, (x, y, z), 0.0), self.size)
        else:
            outputs = self._run(network_volume(prepared, self.size)[None])[0]
        if not np.isfinite(outputs).all():
            raise UserError(f"{self.path} answers with numbers that are not finite: did the network diverge?")
        return to_original(_sigmoid(outputs) if scheme.kind == "regions" else _softmax(outputs), geometry)

    def _scheme(self) -> LabelScheme:
        if not self.segments:
            raise UserError(f"{self.path} classifies images; give image files, in Python to predict_image.")
        return LabelScheme.from_dict(self.info["task"]["scheme"])

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        """(N, channels, *size) float32 -> raw outputs (N, classes, ...), of several exits their weighted sum."""
        outputs = self._session.run(None, {INPUT: np.ascontiguousarray(inputs, np.float32)})
        weights = self.info["exit_weights"]
        total = np.float32(weights[0]) * np.asarray(outputs[0])
        for weight, output in zip(weights[1:], outputs[1:], strict=True):
            total = total + np.float32(weight) * np.asarray(output)
        return total


def _softmax(outputs: np.ndarray) -> np.ndarray:
    """(K, ...) -> the same, summing to 1 over K."""
    powers = np.exp(outputs - outputs.max(axis=0))
    return powers / powers.sum(axis=0)


def _sigmoid(outputs: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * outputs))  # does not overflow
