"""Prediction by exported networks, without PyTorch: volumes to label volumes, images to classes.

It needs numpy and onnxruntime or openvino; for images Pillow, and scipy where white borders are replaced; for volumes
nibabel.
"""

from onceforall.predict.predictor import Predictor

__all__ = ["Predictor"]
