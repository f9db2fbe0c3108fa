"""Let a CUDA build of torchvision be imported beside a CPU build of torch.

PyPI's torchvision for Linux is built for CUDA. Beside a CPU-only torch its C++ library does not
load and ``import torchvision`` ends in "operator torchvision::nms does not exist", which takes
diffusers, peft, BLIP, dreamsim, controlnet_aux and torch-fidelity with it. Declaring the missing
operators is enough: transforms, models and utils then work, and calling ``ops.nms`` itself still
raises torch's own clear error. Registered as an entry point of group ``torch.backends``, so that
every process has it right after ``import torch``.
"""

from importlib.util import find_spec
from pathlib import Path

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library = None  # kept alive: torch drops the operators with it


def declare_missing_operators() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` if torchvision's own library cannot be loaded."""
    global _library
    import torch

    spec = find_spec("torchvision")
    if torch.version.cuda or torch.version.hip or spec is None or spec.origin is None:
        return
    try:
        torch.ops.load_library(str(Path(spec.origin).parent / "_C.so"))
    except OSError:
        _library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _library.define(name + _NMS)
