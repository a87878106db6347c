"""Prediction by exported networks, without PyTorch: volumes to label volumes, images to classes.

It needs numpy, scipy and onnxruntime, for volumes nibabel, for images Pillow.
"""

from onceforall.predict.predictor import Predictor

__all__ = ["Predictor"]
