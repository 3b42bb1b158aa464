"""Ports that tests write, as cells with the weights of their reference."""


def built(name, folder, network, port):
    """The port as a cell with the network's weights, and its code."""
    from convert.plan import plan_of
    from parity_tests.harness.pair import target_of
    from toonport.own_pair import load
    from toonport.porting.porter import PortOptions, _fresh, _write

    _write(folder / "port", name, port, PortOptions(f"kinds.py:{name}", "", folder / "port"))
    path = folder / "port" / f"{name}_ms.py"
    cell = _fresh(f"{path}:{port.name}", name).set_train(False)
    load(network, cell, plan_of(network, target_of(cell), port.layers), None)
    return cell, path.read_text()
