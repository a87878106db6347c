"""Elastic layers: each says, in one method, which of its tensors a smaller layer owns."""
