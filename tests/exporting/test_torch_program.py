"""Programs of `torch.export` against the network itself; what they hold beside it."""

import io
import sys
import zipfile

import numpy as np
import torch

from export_networks import IMAGES
from onceforall.exporting.torch_program import open_program, write_program


def test_it_computes_the_same_and_holds_zeros(tiny, tmp_path):
    net, _ = tiny
    path = tmp_path / "model.pt2"
    write_program(net, IMAGES.shape[1:], path)
    part = open_program(path, ["logits"], None)
    with torch.no_grad():
        expected = net(torch.from_numpy(IMAGES)).numpy()
    for count in (1, 3, 40):
        np.testing.assert_allclose(part.run({"images": IMAGES[:count]})["logits"], expected[:count], atol=1e-5)
    assert path.stat().st_size < 4 * sum(tensor.numel() for tensor in net.state_dict().values()) + 300_000
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            for word in (str(sys.prefix).encode(), b"/src/onceforall", b"stack_trace"):
                assert word not in data, f"{name}: {word}"
            if "example" in name.lower() or "sample" in name.lower():
                tensors = torch.load(io.BytesIO(data), weights_only=True)
                [images], _ = tensors if isinstance(tensors, tuple) else (tensors, None)
                assert images.abs().max() == 0


def test_one_image_at_a_time(tiny, tmp_path):
    net, _ = tiny
    path = tmp_path / "model.pt2"
    write_program(net, IMAGES.shape[1:], path, batch=1)
    with torch.no_grad():
        expected = net(torch.from_numpy(IMAGES[:3])).numpy()
    np.testing.assert_allclose(
        open_program(path, ["logits"], 1).run({"images": IMAGES[:3]})["logits"], expected, atol=1e-5
    )
