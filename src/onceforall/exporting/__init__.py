"""A calibrated sub-network becomes a checked bundle: `bundle_making` begins, `attempts` makes files and judges them."""

from onceforall.exporting.bundle_making import ExportReport, export
from onceforall.exporting.inputs import calibration_inputs, held_out_inputs
from onceforall.exporting.options import ExportOptions
from onceforall.exporting.verifying import Judge

__all__ = ["ExportOptions", "ExportReport", "Judge", "calibration_inputs", "export", "held_out_inputs"]
