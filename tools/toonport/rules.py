"""Naming rules for layers of your own: what PyTorch and MindSpore call their tensors.

Own parameters and buffers of a module that are called alike on both sides, in the same shape, need no rule. Others do:

    import toonport.rules as rules

    rules.register(rules.LayerRule("Scale", "ScaleCell", {"alpha": "gamma"}))

A tensor whose values lie otherwise in MindSpore needs a change in each direction, bit for bit:

    swap = rules.Change("axes 0 and 1 swapped", lambda a: a.swapaxes(0, 1).copy(), lambda a: a.swapaxes(0, 1).copy())
    rules.register(rules.LayerRule("Mix", "MixCell", {"matrix": "matrix"}, changes={"matrix": swap}))
"""

from convert.layers import Change, LayerRule, register  # noqa: F401 (this module is their public name)
