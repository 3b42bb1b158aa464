"""Units of many photos: archives and tables in, files and tables out; what kills and failures leave undone is done."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from convert.errors import InputError
from parity_tests.tests.cases import drawn_picture
from toonport.cluster import require_address
from toonport.photo.batch import KILLED, Outcome, Record, Task
from toonport.photo.folder import FAR, open_pictures
from toonport.photo.picture import write_picture
from toonport.photo.shards import expanded, name_shards, names_in, photos_in
from toonport.photo.units import TRIES, UnitWorker, plan_shards, plan_tables, plan_units

calls: list[str] = []


class Copier:
    """Writes what it is given; says which photos it did."""

    def __call__(self, task):
        calls.append(Path(task.source).name)
        content = Path(task.source).read_bytes() if task.content is None else task.content
        if content == b"bad":
            raise InputError(f"{task.source}: not a picture")
        if content == b"end":
            raise KeyboardInterrupt  # as a kill: nothing after it is done
        Path(task.target).parent.mkdir(parents=True, exist_ok=True)
        Path(task.target).write_bytes(content)
        return Outcome(task.source, (task.target,), facts={"bytes": len(content)})


def worker(settings=None):
    calls.clear()
    return UnitWorker(Copier, settings or {})


def archive(path, photos):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in photos:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def photo_tasks(folder, contents):
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.png").write_bytes(content)
    return [Task(str(folder / f"{name}.png"), str(folder.parent / "out" / f"{name}.png")) for name in contents]


def test_photos_of_an_archive_keep_their_names_and_never_lead_out_of_the_results(tmp_path):
    given = [("a/1.jpg", b"1"), ("a/1.json", b"{}"), ("../../x.png", b"2"), ("/etc/y.png", b"3"), ("a/1.png", b"4"),
             ("a/1.png", b"5")]  # fmt: skip
    found = list(photos_in(archive(tmp_path / "s.tar", given)))
    names = ["a/1.jpg", "x", "etc/y", "a/1.png", "a/1.png-2"]
    assert found == list(zip(names, [b"1", b"2", b"3", b"4", b"5"], strict=True))


def test_an_archive_becomes_a_folder_and_goes_on_where_it_ended(tmp_path):
    path = archive(tmp_path / "in" / "s.tar", [("a.png", b"1"), ("b.png", b"2"), ("c.png", b"end"), ("d.png", b"4")])
    (unit,) = plan_shards(name_shards([str(tmp_path / "in")], tmp_path / "out"), tmp_path / "out", None, False)
    for _ in range(TRIES):
        with pytest.raises(KeyboardInterrupt):
            worker()(unit)
        assert calls[-1] == "c"
    assert calls == ["c"]  # what was done is not done again
    found = worker()(unit)
    assert calls == ["d"]
    assert [outcome.problem for outcome in found] == ["", "", KILLED, ""]
    assert sorted(path.name for path in (tmp_path / "out" / "s").glob("*.png")) == ["a.png", "b.png", "d.png"]
    archive(path, [("a.png", b"1"), ("b.png", b"other")])
    assert [outcome.problem for outcome in worker()(unit)] == ["", ""]
    assert calls == ["b"]
    again = worker()(unit)
    assert not calls
    assert len(again) == 2
    Path(again[0].files[0]).unlink()
    worker()(unit)
    assert calls == ["a"]
    worker({"size": 2})(unit)
    assert calls == ["a", "b"]


def test_an_archive_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path):
    path = archive(tmp_path / "s.tar", [(f"{number}.png", b"x" * 9000) for number in range(3)])
    path.write_bytes(path.read_bytes()[:22000])
    (unit,) = plan_shards(name_shards([str(path)], tmp_path / "out"), tmp_path / "out", None, False)
    for _ in range(2):  # it is no finished one
        *_, last = worker()(unit)
        assert last.source == str(path)
        assert "cut off or damaged" in last.problem


def test_patterns_and_shards_are_found_and_photos_beside_them_refused(tmp_path):
    for name in ("in/a.tar", "in/sub/a.tar", "in/b.tgz", "in/out/c.tar"):
        archive(tmp_path / name, [])
    found = name_shards([str(tmp_path / "in")], tmp_path / "in" / "out")
    assert set(found) == {"a", "b", "sub/a"}
    assert expanded([str(tmp_path / "in" / "*.tar")]) == [str(tmp_path / "in" / "a.tar")]
    with pytest.raises(InputError, match="no file fits"):
        expanded([str(tmp_path / "*.zip")])
    (tmp_path / "in" / "p.png").write_bytes(b"1")
    with pytest.raises(InputError, match="one at a time"):
        name_shards([str(tmp_path / "in")], tmp_path / "out")


def test_what_is_tried_again_with_the_same_end_is_on_record_once(tmp_path):
    (task,) = photo_tasks(tmp_path / "in", {"a": b"bad"})
    path, bad = tmp_path / "record.jsonl", Outcome(task.source, problem="not a picture", warnings=("w",))
    for _ in range(2):
        record = Record(path, {})
        record.add(bad, task)
        record.add(bad, task)
        assert record.known(task) is None
    assert len(path.read_text().splitlines()) == 1
    record.add(Outcome(task.source, problem="another reason"), task)
    assert len(path.read_text().splitlines()) == 2


def drawn(folder, count):
    """Files of pictures."""
    for number in range(count):
        write_picture(folder / f"{number:03d}.png", drawn_picture(str(number), 16, 16))
    return sorted(folder.iterdir())


def same(found, files):
    """Whether pictures that were opened are those of the files, read in any order, also by another process."""
    expected = open_pictures(files[0].parent)
    found = pickle.loads(pickle.dumps(found))
    names = [*found.files]
    assert [name.rpartition("/")[2] for name in names] == [*expected.files]
    order = [*names, *names[::-1], *names[::3]]
    return all(np.array_equal(found.read(name), expected.read(name.rpartition("/")[2])) for name in order)


def test_pictures_of_patterns_and_archives_are_those_of_a_folder(tmp_path):
    files = drawn(tmp_path / "in", 5)
    content = [(file.name, file.read_bytes()) for file in files]
    one = archive(tmp_path / "one.tar", content)
    archive(tmp_path / "many" / "a.tar", content[:3])
    archive(tmp_path / "many" / "b.tar", content[3:])
    assert same(open_pictures(tmp_path / "in" / "*.png"), files)
    assert same(open_pictures(one), files)
    assert [*open_pictures(one).files] == [file.stem for file in files]
    several = open_pictures(tmp_path / "many")
    assert same(several, files)
    assert [*several.files] == ["a/000", "a/001", "a/002", "b/003", "b/004"]
    assert several.holder("b/003") == tmp_path / "many" / "b.tar"
    one.write_bytes(one.read_bytes()[:-12000])
    cut = open_pictures(tmp_path / "many" / "?.tar")
    (tmp_path / "many" / "b.tar").write_bytes(b"")
    assert [cut.read(name) is None for name in cut.files] == [False, False, False, True, True]
    assert len(cut.unreadable) == 2
    for missing in ("none", "none*.png"):
        with pytest.raises(InputError):
            open_pictures(tmp_path / missing)


def test_an_archive_is_read_on_and_again_from_any_place(tmp_path):
    given = [(f"{number}.png", str(number).encode()) for number in range(2 * FAR)]
    path = archive(tmp_path / "s.tar", given)
    assert names_in(path) == [str(number) for number in range(2 * FAR)]
    assert [name for name, _ in photos_in(path, start=2 * FAR - 2)] == [str(2 * FAR - 2), str(2 * FAR - 1)]


def test_pictures_of_tables_are_those_of_a_folder(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'toonport[ray]'")
    from pyarrow import parquet

    files = drawn(tmp_path / "in", 7)
    rows = {"name": [file.name for file in files], "picture": [file.read_bytes() for file in files], "x": [b""] * 7}
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(rows), path, row_group_size=3)
    assert same(open_pictures(path, column="picture"), files)
    for start in range(8):
        expected = list(zip([file.stem for file in files], rows["picture"], strict=True))[start:]
        assert list(photos_in(path, "picture", start)) == expected
    tasks = [Task(str(file), str(tmp_path / "out" / file.name)) for file in files]
    for unit in plan_tables(tasks, tmp_path / "out"):
        worker()(unit)
    assert same(open_pictures(tmp_path / "out"), files)
    assert [*open_pictures(tmp_path / "out").files] == [file.stem for file in files]


def test_units_of_photos_hold_each_once(tmp_path):
    tasks = [Task(str(number), str(number)) for number in range(1000)]
    units = plan_units(tasks, tmp_path, 2)
    assert [task for unit in units for task in unit.tasks] == tasks
    assert len({unit.record for unit in units}) == len(units) == 67


@pytest.mark.parametrize("address", ["photos/", "host", "host:port", ":6379"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="no address"):
        require_address(address)
    for good in ("local", "auto", "ray://h:1", "host:6379"):
        require_address(good)


def test_a_table_is_written_once_and_only_failures_are_tried_again(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'toonport[ray]'")
    tasks = photo_tasks(tmp_path / "in", {"a": b"1", "b": b"bad", "c": b"3"})
    (unit,) = plan_tables(tasks, tmp_path / "out")
    found = worker()(unit)
    assert [bool(outcome.problem) for outcome in found] == [False, True, False]
    assert worker()(unit) == found
    assert calls == ["b.png"]
    (tmp_path / "in" / "b.png").write_bytes(b"2")
    worker()(unit)
    assert calls == ["b.png"]
    table = parquet.read_table(unit.table).to_pylist()
    assert {row["name"]: row["picture"] for row in table} == {"a.png": b"1", "b.png": b"2", "c.png": b"3"}
    assert [path.name for path in (tmp_path / "out" / ".units").iterdir()] == []
    before = Path(unit.table).read_bytes()
    worker()(unit)
    assert not calls
    Path(unit.table).unlink()
    worker()(unit)
    assert Path(unit.table).read_bytes() == before


def test_tables_of_photos_that_are_gone_are_removed_but_never_those_of_others(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'toonport[ray]'")
    many = {f"{number:03d}": b"1" for number in range(65)}
    tasks = photo_tasks(tmp_path / "in", many)
    for unit in plan_tables(tasks, tmp_path / "out"):
        worker()(unit)
    with pytest.raises(InputError, match="other photos"):
        plan_tables(tasks[:3], tmp_path / "out")
    for task in tasks[3:]:
        Path(task.source).unlink()
    (unit,) = plan_tables(tasks[:3], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_photos_of_a_table_are_found_by_its_columns(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'toonport[ray]'")
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    plain = {"key": ["x/1.jpg", None, "x/1.jpg"], "jpg": [b"1", b"2", None]}
    parquet.write_table(pyarrow.table(plain), path)
    assert list(photos_in(path)) == [("x/1.jpg", b"1"), ("1", b"2"), ("x/1.jpg-2", b"")]
    parquet.write_table(pyarrow.table({"image": [{"bytes": b"1", "path": "a.png"}], "mask": [b"0"]}), path)
    with pytest.raises(InputError, match="mask, image; --column"):
        list(photos_in(path))
    assert list(photos_in(path, "image")) == [("a", b"1")]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="cut off or damaged"):
        list(photos_in(path))
