"""The benchmark on blood cells: one recipe for all networks, and a table that says how sure it is."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("mmdet")


@pytest.fixture
def bccd(importable, monkeypatch):
    from benchmarks import bccd

    def plain_config(data, folder, epochs):
        from attn_mm.utils.config import load_config

        cfg = load_config("configs/tdaf/fcos-r50_plain_coco.py")
        cfg.model.backbone.update(depth=18)
        cfg.model.neck.in_channels = [64, 128, 256, 512]
        return cfg

    monkeypatch.setattr(bccd, "plain_config", plain_config)
    return bccd


def test_networks_differ_in_their_grafts_alone(bccd):
    plain = bccd.plain_config(None, None, 2)
    configs = {name: bccd.run_config(plain, name, "test", 4, 1e-3) for name in bccd.NETWORKS}
    own = configs["plain"].model.backbone
    assert own.depth == 18 and own.init_cfg is None and own.frozen_stages == -1
    for name, cfg in configs.items():
        if name != "plain":
            assert cfg.model.backbone.backbone == own and cfg.model.backbone.grafts
            cfg.model.backbone = own
        assert cfg.to_dict() == configs["plain"].to_dict()
    assert (
        cfg.val_dataloader == cfg.test_dataloader and cfg.train_cfg.val_interval == cfg.train_cfg.max_epochs
    )


def test_counts_parameters(bccd):
    plain = bccd.plain_config(None, None, 2)
    of = [bccd.parameters(bccd.run_config(plain, name, "test", 4, 1e-3)) for name in ("plain", "SE")]
    # Two layers of C * C / 16 weights in each of two blocks of a stage.
    assert of[1] - of[0] == sum(4 * width**2 // 16 for width in (64, 128, 256, 512))


def test_the_table_and_what_is_kept(bccd, tmp_path, capsys, monkeypatch):
    seeds_seen = []

    def trained(cfg, folder, seed, threads):
        seeds_seen.append(seed)
        gain = 0.02 * ("grafts" in cfg.model.backbone) * (1 + seed)
        return {"coco/bbox_mAP": 0.3 + gain, "coco/bbox_mAP_50": 0.5}

    monkeypatch.setattr(bccd, "trained", trained)
    monkeypatch.setattr(bccd, "parameters", lambda cfg: 10)
    flags = ["--data", str(tmp_path), "--work-dir", str(tmp_path / "out"), "--networks", "plain", "SE"]
    bccd.main([*flags, "--seeds", "0", "1"])
    assert seeds_seen == [0, 0, 1, 1]
    cases = json.loads((tmp_path / "out" / "bccd.json").read_text())["cases"]
    assert set(cases) == {"plain 0", "plain 1", "SE 0", "SE 1"}
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| SE"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["SE", "10", "33.00 (1.41)", "50.00 (0.00)", "2", "+3.00", "0.205"]
    assert (tmp_path / "out" / "bccd.png").stat().st_size > 5000
    bccd.main([*flags, "--seeds", "0", "1"])
    assert len(seeds_seen) == 4


def test_another_recipe_is_refused(bccd, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bccd, "trained", lambda *_: dict.fromkeys(bccd.METRICS.values(), 0.5))
    monkeypatch.setattr(bccd, "parameters", lambda cfg: 10)
    flags = ["--data", str(tmp_path), "--work-dir", str(tmp_path / "out"), "--networks", "plain"]
    bccd.main(flags)
    for changed, said in ((["--epochs", "3"], "epochs"), (["--data", "nowhere"], "does not exist")):
        with pytest.raises(SystemExit) as stopped:
            bccd.main([*flags, *changed])
        assert stopped.value.code == 2 and said in capsys.readouterr().err
