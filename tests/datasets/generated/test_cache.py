"""The cache of the generated sets: seeds, damage, interruptions, several processes."""

from __future__ import annotations

import multiprocessing
import shutil

import pytest
from thinned import thinned

from attn_mm.datasets.generated import cache, motions, persons, pictures, shapes
from attn_mm.errors import UserError

SMALL = {"num_train": 6, "num_val": 2, "image_size": 64, "seed": 3}
DRAW = {shapes: "draw_scene", persons: "draw_scene", pictures: "draw_scene", motions: "draw_video"}


@pytest.fixture(params=DRAW, ids=lambda module: module.__name__.rpartition(".")[2])
def module(request):
    return request.param


def annotations(folder):
    """The file of the samples to evaluate on."""
    (path,) = [p for p in folder.rglob("*") if p.suffix in (".json", ".txt") and "val" in p.name]
    return path


def make(module, root, **changes):
    kind = module.__name__.rpartition(".")[2]
    return getattr(module, f"make_{kind}")(root, **{**SMALL, **changes})


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_pixels_other_seed_other_pixels(module, tmp_path):
    first = contents(make(module, tmp_path / "a"))
    assert contents(make(module, tmp_path / "b")) == first
    other = contents(make(module, tmp_path / "b", seed=4))
    assert other.keys() == first.keys()
    # The classes of the motions are the same for every seed.
    assert all(other[name] != first[name] for name in first if name.suffix != ".txt")


def test_a_longer_set_extends_a_shorter_one(module, tmp_path):
    short = contents(make(module, tmp_path))
    long = contents(make(module, tmp_path, num_train=9))
    samples = [name for name in short if name.suffix in (".jpg", ".mp4")]
    assert len(samples) == 8
    assert all(long[name] == short[name] for name in samples)


def test_the_cache_is_reused(module, tmp_path, monkeypatch):
    folder = make(module, tmp_path)
    monkeypatch.setattr(module, DRAW[module], lambda *_: pytest.fail("generated twice"))
    assert make(module, tmp_path) == folder
    assert [p.name for p in tmp_path.iterdir()] == [folder.name], "a workspace was left behind"


@pytest.mark.parametrize("change", [{"num_train": 7}, {"num_val": 3}, {"image_size": 66}, {"seed": 4}])
def test_every_parameter_has_its_own_folder(module, tmp_path, change):
    assert make(module, tmp_path) != make(module, tmp_path, **change)


@pytest.mark.parametrize(
    "damage",
    thinned(
        ["sample", "annotations", "all", "file", "cut", "labels", "more", "checksums"],
        ["annotations", "cut", "more", "checksums"],
    ),
)
def test_a_damaged_folder_is_made_anew(module, tmp_path, damage):
    folder = make(module, tmp_path)
    whole = contents(folder)
    if damage == "sample":
        next(folder.glob("train*/*")).unlink()
    elif damage == "annotations":
        annotations(folder).unlink()
    elif damage == "cut":
        sample = next(folder.glob("train*/*"))
        sample.write_bytes(sample.read_bytes()[:-9])
    elif damage == "labels":
        path = annotations(folder)
        path.write_text(path.read_text().replace("1", "2", 1))
    elif damage == "more":
        (folder / "other.jpg").touch()
    elif damage == "checksums":
        (folder / "checksums.json").write_bytes(b"[" * 100_000)
    else:
        shutil.rmtree(folder)
        folder.mkdir() if damage == "all" else folder.write_text("")
    assert contents(make(module, tmp_path)) == whole
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_an_interrupted_run_leaves_nothing_that_looks_complete(module, tmp_path, monkeypatch):
    drawn, draw = [], getattr(module, DRAW[module])

    def interrupt(random, size, *rest):
        drawn.append(size)
        if len(drawn) == 5:
            raise KeyboardInterrupt
        return draw(random, size, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, DRAW[module], interrupt)
        make(module, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(contents(make(module, tmp_path))) == 6 + 2 + 2 + 1


def _race(module, root, barrier, results):
    barrier.wait()
    results.put(make(module, root))


@pytest.mark.parametrize("damaged", thinned([False, True], [True]))
def test_two_processes_at_once(module, tmp_path, damaged):
    if damaged:
        annotations(make(module, tmp_path)).unlink()
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    runners = [context.Process(target=_race, args=(module, tmp_path, barrier, results)) for _ in range(2)]
    for runner in runners:
        runner.start()
    folders = [results.get(timeout=60) for _ in runners]
    for runner in runners:
        runner.join()
    assert [runner.exitcode for runner in runners] == [0, 0]
    assert folders[0] == folders[1]
    assert contents(folders[0]) == contents(make(module, tmp_path / "alone"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["alone", folders[0].name])


def test_the_slower_of_two_takes_the_faster_ones_folder(module, tmp_path, monkeypatch):
    """The race, made certain: the other process finishes while this one is drawing."""
    finished, draw = [], getattr(module, DRAW[module])

    def draw_while_another_finishes(random, size, *rest):
        if not finished:
            finished.append(None)
            finished.append(contents(make(module, tmp_path)))
        return draw(random, size, *rest)

    monkeypatch.setattr(module, DRAW[module], draw_while_another_finishes)
    folder = make(module, tmp_path)
    assert contents(folder) == finished[1]
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_cache_root_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ATTN_MM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_root() == tmp_path / ".cache" / "attn_mm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_root() == tmp_path / "xdg" / "attn_mm"
    monkeypatch.setenv("ATTN_MM_CACHE", str(tmp_path / "own"))
    assert cache.cache_root() == tmp_path / "own"
    assert shapes.make_shapes(**SMALL).parent == tmp_path / "own"


def test_a_cache_that_cannot_be_written_names_the_way_out(module, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*ATTN_MM_CACHE"):
        make(module, tmp_path / "file")


@pytest.mark.parametrize("change", [{"num_train": 0}, {"num_val": 0}, {"image_size": 30}, {"seed": -1}])
def test_parameters_out_of_range(module, tmp_path, change):
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        make(module, tmp_path, **change)
