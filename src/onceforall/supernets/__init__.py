"""Elastic networks by name."""

from onceforall.supernets.registry import create_supernet, list_supernets
from onceforall.supernets.supernet import Freeze, Supernet

__all__ = ["Freeze", "Supernet", "create_supernet", "list_supernets"]
