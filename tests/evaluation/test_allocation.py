"""Memory that a process keeps."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import torch
from onceforall.evaluation.allocation import keep_freed_memory

class Counts(ctypes.Structure):  # mallinfo2 of glibc's malloc.h
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

count = ctypes.CDLL(None).mallinfo2
count.restype = Counts

def mapped(mebibytes):
    before = count().hblkhd
    tensor = torch.empty(mebibytes << 18)
    return (count().hblkhd - before) >> 20

print(mapped(16), end=" ")
keep_freed_memory()
held = count().arena
tensor = torch.empty(16 << 18)
del tensor
print(mapped(16), mapped(200), count().arena - held >= 16 << 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_tensors_of_some_mebibytes_are_no_longer_given_back_to_the_system():
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    before, after, large, kept = said.split()
    assert int(before) >= 16  # a mapping of its own, which goes when the tensor goes
    assert after == "0"  # from memory that was kept
    assert int(large) >= 200  # more than glibc keeps
    assert kept == "True"
