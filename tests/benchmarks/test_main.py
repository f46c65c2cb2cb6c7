"""One command for all benchmarks."""

from __future__ import annotations

import pytest


@pytest.fixture
def main(importable):
    from benchmarks.__main__ import main

    return main


def test_lists_every_benchmark(main, repo, capsys):
    main([])
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    listed = {line[0]: line[1] for line in lines if (repo / "benchmarks" / f"{line[0]}.py").exists()}
    with_a_command = [p.stem for p in (repo / "benchmarks").glob("*.py") if "prog=" in p.read_text()]
    assert sorted(listed) == sorted(with_a_command)
    assert all(text.endswith((".", ",", ":")) or len(text) > 30 for text in listed.values())


def test_runs_one(main, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["latency", "--help"])
    assert stopped.value.code == 0 and "python -m benchmarks.latency" in capsys.readouterr().out


def test_another_name(main, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["latencies"])
    assert stopped.value.code == 2
    assert "latencies is no benchmark; there are bccd, cifar10" in capsys.readouterr().err
