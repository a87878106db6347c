"""Tasks, metrics, calibration, cost and latency of sub-networks."""
