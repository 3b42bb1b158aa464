"""An evaluation whose pictures other processes look at."""

import pickle
from functools import partial

from parity_tests.tests.cases import drawn_picture, save_torch, seeded_state
from toonport.evaluate import spread
from toonport.evaluate.evaluator import Evaluator
from toonport.evaluate.metrics import open_networks
from toonport.photo.folder import PictureFolder
from toonport.photo.picture import write_picture


def test_what_another_process_made_of_a_batch_is_kept_and_the_numbers_are_the_same(tmp_path, monkeypatch):
    for name in ("fake", "real"):
        for number in range(11):
            write_picture(tmp_path / name / f"{number}.png", drawn_picture(f"{name}{number}", 64, 64))
    fake, real = PictureFolder(tmp_path / "fake"), PictureFolder(tmp_path / "real")
    face = save_torch(tmp_path / "face.pth", seeded_state("mobilefacenet", "mobilefacenet"))
    fake.files["3"].write_bytes(b"no picture")
    opener = partial(open_networks, None, str(face), None)
    looks = []

    def in_this_process(make, units, *_):
        """In any order, each batch by a worker of its own."""
        for unit in reversed(units):
            worker = pickle.loads(pickle.dumps(make))()
            yield worker(unit)
            looks.append(worker._open is not None)

    monkeypatch.setenv("TOONPORT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(spread, "on_ray", in_this_process)
    plain = Evaluator(opener(), real, real, "standard", 0)
    spreading = spread.Spread(opener, plain.networks, "local", 2, False, tmp_path / "kept")
    there = Evaluator(plain.networks, real, real, "standard", 0, spreading)
    expected = plain.of_folder(fake)
    assert {metric.counts.get("generated", metric.counts.get("pairs")) for metric in expected.metrics} == {10}
    fake.unreadable.clear()
    assert there.of_folder(fake) == expected
    assert fake.unreadable == {fake.files["3"]}
    assert looks == [True] * 4
    there._real = None
    assert there.of_folder(fake) == expected
    assert looks == [True] * 4 + [False] * 4
    write_picture(fake.files["3"], drawn_picture("new", 64, 64))
    assert there.of_folder(fake) != expected
    assert looks[8:] == [False, True]  # the last batch is the first that is done
