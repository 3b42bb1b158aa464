"""Names that written code may not give away: those of files of layers, of cells, and of what the code uses."""

import ast
import keyword
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

LAYER_FILES = (
    Path(__file__).with_name("cells_moving.py"),
    Path(__file__).with_name("cells.py"),
    Path(__file__).parents[3] / "ms_models" / "layers.py",
)
# attributes that every cell has already
CELLS_OWN = frozenset({
    "bprop", "cell_type", "cells", "cls_name", "compile", "construct", "flags", "grad_hook", "name", "param_prefix",
    "parameters_dict", "phase", "pipeline_stage", "recompute", "requires_grad", "shard", "to_float", "train",
    "trainable_params", "training", "type", "enable_hook", "init_parameters_data", "insert_param_to_cell", "offload",
    "jit_config_dict", "cast_param", "untrainable_params",
})  # fmt: skip
# what classes are written with
MODULES_OWN = frozenset({
    "Tensor", "Parameter", "ops", "nn", "ms", "np", "math", "mindspore", "Path", "OrderedDict", "constant", "CONSTANTS",
})  # fmt: skip
# what a construct is written with besides
BODYS_OWN = frozenset({"self", "int", "float", "round", "slice", "super", "range", "tuple", "layer"})


def taken_by_classes() -> frozenset[str]:
    """Return names that no class may have: of the file of layers, and what classes are written with."""
    return MODULES_OWN | frozenset(definitions())


def safe(name: str) -> str:
    """Return a name that means nothing else in a construct: the same, or with an underscore."""
    free = name.isidentifier() and not keyword.iskeyword(name)
    return name if free and name not in BODYS_OWN | taken_by_classes() else f"{name}_"


@lru_cache(maxsize=1)
def definitions() -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """Name -> code and the other names that it uses, of everything that files of layers may hold."""
    found: dict[str, tuple[str, ast.stmt]] = {}
    for path in reversed(LAYER_FILES):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            code = ast.get_source_segment(text, node) or ""
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = code, node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = code, node
    names = set(found)
    return {name: (code, tuple(sorted(_used(node) & names))) for name, (code, node) in found.items()}


def _used(node: ast.stmt) -> set[str]:
    """Names that a definition takes from outside it."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    return {each.id for each in names} - {each.id for each in names if isinstance(each.ctx, ast.Store)}
