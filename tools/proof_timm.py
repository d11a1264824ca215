"""timm without torchvision, for the towers that are timm's.

timm imports torchvision for what no tower here uses, and a torchvision that was built for another torch than the one
installed breaks both. So that it is not needed, timm is imported with an empty one, which is gone afterwards:
transformers would take it for the real one.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from functools import cache
from importlib.util import find_spec
from typing import Any

_NAME = "torchvision"


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return name


class _Empty(types.ModuleType):
    """A module in which every name is a class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        import torch

        made = _Anything(name, (torch.nn.Module,), {})
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != _NAME:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: it is empty."""


@cache
def import_timm() -> None:
    """Have transformers build timm's towers, where timm is installed and torchvision is not."""
    if find_spec("timm") is None or find_spec(_NAME) is not None:
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        import timm
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == _NAME]:
            del sys.modules[name]
    from transformers.models.timm_wrapper import modeling_timm_wrapper
    from transformers.utils import import_utils

    modeling_timm_wrapper.timm = timm
    import_utils.BACKENDS_MAPPING["timm"] = (lambda: True, "")
