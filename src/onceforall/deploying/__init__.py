"""From a run to a device: exported, fine-tuned, with thresholds of exits, packed; `command_*` are the talking."""
