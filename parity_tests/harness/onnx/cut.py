"""Cuts an ONNX file at its layers: for each value, the file that computes it from values before it."""

from collections.abc import Collection
from typing import Any


class Cutter:
    """Cuts one file many times."""

    def __init__(self, model: Any) -> None:
        """`model`: onnx.ModelProto, which stays as it is."""
        import onnx

        self._model = onnx.shape_inference.infer_shapes(model)
        graph = self._model.graph
        self._makers = {name: node for node in graph.node for name in node.output if name}
        typed = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
        unknown = (name for name in self._makers if name not in typed)
        float32 = onnx.TensorProto.FLOAT
        graph.value_info.extend(onnx.helper.make_tensor_value_info(name, float32, None) for name in unknown)
        self._extractor = onnx.utils.Extractor(self._model)

    def cut(self, value: str, known: Collection[str]) -> Any:
        """Return the onnx.ModelProto that computes `value` from those `known` values that it is computed of last."""
        return self._extractor.extract_model(self._border(value, known), [value])

    def _border(self, value: str, known: Collection[str]) -> list[str]:
        """The known values that are met on all ways back from a value."""
        met, seen, left = dict[str, None](), set[str](), list(self._makers[value].input)
        while left:
            name = left.pop()
            if name in known:
                met[name] = None
            elif name in self._makers and name not in seen:
                seen.add(name)
                left.extend(self._makers[name].input)
        return list(met)
