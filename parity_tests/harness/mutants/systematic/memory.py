"""A trainer of the reference whose answers are remembered, so that a mutant need not train the reference again."""

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

Answers = dict[str, Any]  # what was done so far, hashed -> the answer to the last of it


class Remembered:
    """Stands for an object whose answers depend on nothing but what was asked and set before.

    Args:
        make: builds the object; called only when an answer is not known.
        answers: what is known; new answers are added.
        key: what the object is made from.
    """

    def __init__(self, make: Callable[[], Any], answers: Answers, key: bytes) -> None:
        self._make, self._answers, self._past = make, answers, hashlib.sha256(key)
        self._log: list[tuple[tuple[str, ...], Any, bool]] = []
        self._object: Any = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Member(self, (name,))

    def ask(self, path: tuple[str, ...], content: Any, is_call: bool) -> Any:
        """Call the method at a path with arguments, or set the attribute there."""
        self._past.update(pickle.dumps((path, content, is_call)))
        self._log.append((path, content, is_call))
        key = self._past.hexdigest()
        if key not in self._answers or self._object is not None:
            known = self._object is not None
            self._object = self._object if known else self._make()
            for entry in self._log[-1:] if known else self._log:
                self._answers[key] = self._do(*entry)
        return self._answers[key]

    def _do(self, path: tuple[str, ...], content: Any, is_call: bool) -> Any:
        target = self._object
        for name in path[:-1]:
            target = getattr(target, name)
        if is_call:
            return getattr(target, path[-1])(*content)
        return setattr(target, path[-1], content)


class _Member:
    def __init__(self, owner: Remembered, path: tuple[str, ...]) -> None:
        object.__setattr__(self, "_at", (owner, path))

    def __getattr__(self, name: str) -> Any:
        owner, path = object.__getattribute__(self, "_at")
        return _Member(owner, (*path, name))

    def __setattr__(self, name: str, value: Any) -> None:
        owner, path = object.__getattribute__(self, "_at")
        owner.ask((*path, name), value, False)

    def __call__(self, *arguments: Any) -> Any:
        owner, path = object.__getattribute__(self, "_at")
        return owner.ask(path, arguments, True)
