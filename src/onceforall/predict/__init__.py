"""Prediction by exported networks, without PyTorch: volumes to label volumes, images to classes.

It needs numpy and onnxruntime or openvino; for images Pillow, for volumes nibabel and scipy.
"""

from onceforall.predict.predictor import Predictor

__all__ = ["Predictor"]
