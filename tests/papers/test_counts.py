"""Which published figures are met: every one that is not is named here."""

from __future__ import annotations

import dataclasses

import pytest
from counted import counts as is_counted_here
from counted import is_as_it_is, is_counted

from attn_mm.errors import UserError
from attn_mm.papers import Row, paper_names, rows_of
from attn_mm.papers import counts as counting
from attn_mm.papers.counts import Count, compare, count_row, paper_report
from attn_mm.papers.metafile import read_metafile
from attn_mm.papers.published import agreement, relative_error, value_of

for _framework in ("mmdet", "mmaction", "mmpretrain"):
    pytest.importorskip(f"{_framework}.models")

TDAF_RESNETS = (
    "R50 ANAR-3, 3",
    "R50 ANAR-5, 3",
    "R50 ANAR-7, 3",
    "R50 ANAR-3, 4",
    "R101 ANAR-3, 3",
    "R101 ANAR-3, 4",
    "R152 ANAR-3, 3",
    "RX50 (32x4d) ANAR-3, 3",
    "RX101 (32x8d) ANAR-3, 3",
)

DIFFERENT_PARAMETERS = {
    # SE's figure, printed for CBAM.
    ("TD, table 1", "R101 CBAM"),
    # As in the text, which the published figures don't follow.
    ("TD, table 1", "R101 TD joint, t=2, m=1, ten blocks of layer 3"),
    ("TD, section 4.4", "MobileNetV3-Large TD joint, t=2, m=1, widths of eq. 4"),
    # A layer that the text doesn't have.
    *(("TDAF, table 3a", f"{name} flows") for name in TDAF_RESNETS),
    ("TDAF, table 2", "R50 ANAR-3, 3 flows"),
    ("TDAF, table 2", "R101 ANAR-3, 3 flows"),
    # Cut off, not rounded.
    ("TDAF, table 3a", "R152 ANAR-3, 3 flows, with the 1x1"),
    ("TDAF, table 3a", "RX101 (32x8d) ANAR-3, 3 flows, with the 1x1"),
    ("TDAF, table 3a", "MobileNet ANAR-3, 2 flows"),
    *(("AW, table 1", f"{name}") for name in ("AW-R101", "AW-SE-R101")),
    *(("AW, table 1", f"AW-CBAM-R101 ({variant})") for variant in ("MaxPool", "Spatial")),
    # The published increase is a 3x3 kernel's.
    *(("TAM, table 1", f"{n} TAM, 100 classes") for n in ("R18", "R50", "R101", "RX50 (32x4d)", "WRN-16-8")),
    *(("TAM, table 2", f"{n} TAM, 10 classes") for n in ("R18", "R34", "R50", "WRN-16-8")),
    # Misprints of the last digits.
    ("TAM, table 1", "R18 TAM 3x3, 100 classes"),
    ("TAM, table 1", "R101 TAM 3x3, 100 classes"),
    ("TAM, table 2", "R18, 10 classes"),
}

DIFFERENT_MACS = {
    ("TD, table 1", "R101 TD joint, t=2, m=1, ten blocks of layer 3"),
    ("TDAF, table 3a", "VGG16"),
    ("TDAF, table 3a", "VGG16 ANAR-5, 3 flows, every pool"),
    *(("TDAF, table 3a", f"VGG16 ANAR-5, {flows} flows") for flows in (2, 3)),
    *(("TDAF, table 3a", f"{name} flows") for name in TDAF_RESNETS),
    # Transposed convolutions counted at four times their cost; R101's figure has room for it.
    *(
        ("TDAF, table 3a", f"{name} flows, with the 1x1")
        for name in TDAF_RESNETS
        if not name.startswith("R101 ")
    ),
    # Rounded twice.
    ("TDAF, table 3a", "R101"),
    ("TDAF, table 3a", "MobileNet ANAR-3, 2 flows"),
    # What else than products is counted in attention is not said.
    *(
        ("AW, table 1", f"{name}R{depth}{variant}")
        for depth in (50, 101)
        for name, variant in (
            ("AW-", ""),
            ("SE-", ""),
            ("AW-SE-", ""),
            ("AW-CBAM-", " (MaxPool)"),
            ("AW-CBAM-", " (Spatial)"),
        )
    ),
    *(("AW, table 1", f"{name}-MobileNet") for name in ("SE", "AW-SE", "CBAM")),
    ("AW, table 1", "AW-CBAM-MobileNet (Spatial)"),
    *(("AW, table 2", f"{name}-R50") for name in ("AW", "AW-SE", "CBAM", "AW-CBAM")),
    ("AW, table 2", "AA-Wide-R"),
    *(("AW, table 2", f"AW-AA-Wide-R-{i}") for i in range(4)),
    # CBAM's poolings are left out there.
    *(("TAM, table 1", f"{name} CBAM, 100 classes") for name in ("R50", "R101")),
    # The plain network's figure.
    *(("TAM, table 1", f"{name} TAM, 100 classes") for name in ("R101", "RX50 (32x4d)")),
    # A 3x3 kernel's figure.
    ("TAM, table 2", "R34 TAM, 10 classes"),
}


@pytest.fixture(scope="module")
def counts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "rows_of", lambda paper: list(filter(is_counted_here, rows_of(paper))))
        return compare(paper_names())


@pytest.mark.parametrize(
    "figure, different", [("params", DIFFERENT_PARAMETERS), ("macs", DIFFERENT_MACS)], ids=["params", "macs"]
)
def test_published_figures(figure, different, counts):
    differ = [c for c in counts if getattr(c, f"{figure}_agreement") == "differs"]
    counted = {(c.row.where, c.row.network) for c in counts}
    assert {(c.row.where, c.row.network) for c in differ} == different & counted
    assert all(c.row.note for c in differ)


def all_rows() -> list[Row]:
    return [row for paper in paper_names() for row in rows_of(paper)]


def cells(page: str) -> dict[tuple[str, str], list[str]]:
    """The rows of the table but for the numbers of their notes, by table and network."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-2]] for line in page.splitlines() if line[:2] == "| "
    ]
    return {(row[0], row[1]): row[2:] for row in rows}


def test_the_page_is_what_the_tool_writes(repo, counts):
    page = (repo / "docs/papers.md").read_text()
    if len(counts) == len(all_rows()):
        assert page == paper_report(counts)
    written = cells(page)
    assert cells(paper_report(counts)).items() <= written.items()
    for row in all_rows():
        assert written[row.where, row.network][0] == (row.params or "")


def test_parameters_of_the_metafiles(counts):
    counted = {(count.row.where, count.row.network): count.params for count in counts}
    entries = [entry for paper in paper_names() for entry in read_metafile(paper).entries]
    assert sum(map(is_counted, entries)) > 80
    for entry in filter(is_counted, entries):
        found = {counted[row.where, row.network] for row in entry.rows if is_as_it_is(row, entry)}
        assert found == {entry.parameters}, entry.name


def test_multiply_adds_of_the_metafiles(counts):
    """Those of a config as it is, wherever the paper publishes some."""
    counted = {(count.row.where, count.row.network): count.macs for count in counts}
    for paper in paper_names():
        for entry in read_metafile(paper).entries:
            own = [row for row in entry.rows if row.macs and not row.options and row.config == entry.config]
            found = {counted[row.where, row.network] for row in own if is_counted_here(row)}
            assert found <= {entry.flops}, entry.name


@pytest.mark.parametrize(
    "paper, network, figure",
    [
        # The text's own reading, where the published figures follow another one.
        ("tam", "R18 TAM, 100 classes", "11.228 M"),
        ("tam", "R50 TAM, 100 classes", "23.766 M"),
        pytest.param("tam", "R101 TAM, 100 classes", "42.827 M", marks=pytest.mark.whole),
        ("tam", "RX50 (32x4d) TAM, 100 classes", "23.237 M"),
        ("tam", "WRN-16-8 TAM, 100 classes", "11.016 M"),
        pytest.param("aw", "AW-R101", "44.863 M", marks=pytest.mark.whole),
        # Finer than the published digits.
        ("aw", "AW-R50", "25.722 M"),
        ("aw", "AW-SE-R50", "28.253 M"),
        ("aw", "SE-R50", "28.088 M"),
        ("aw", "MobileNet", "4.232 M"),
        ("aw", "SE-MobileNet", "5.072 M"),
        ("aw", "AW-SE-MobileNet", "5.521 M"),
        ("aw", "AA-Wide-R", "8.435 M"),
        ("aw", "AW-AA-Wide-R-0", "8.504 M"),
        ("aw", "AW-AA-Wide-R-1", "8.478 M"),
        ("aw", "AW-AA-Wide-R-2", "8.452 M"),
        ("aw", "AW-AA-Wide-R-3", "8.435 M"),
        ("tdaf", "VGG16 ANAR-2, 3 flows", "138.44 M"),
        ("tdaf", "VGG16 ANAR-3, 3 flows", "138.49 M"),
        ("tdaf", "VGG16 ANAR-5, 3 flows", "138.88 M"),
        ("tdaf", "VGG19 ANAR-3, 3 flows", "143.80 M"),
        ("tdaf", "R50 ANAR-3, 3 flows, with the 1x1", "29.92 M"),
        pytest.param("tdaf", "R101 ANAR-3, 3 flows, with the 1x1", "48.91 M", marks=pytest.mark.whole),
    ],
)
def test_known_parameters(paper, network, figure, counts):
    named = (c for c in counts if c.row.network == network and c.row.where.startswith(f"{paper.upper()},"))
    count = next(named)
    assert agreement(count.params, figure) == "digits", count.params


@pytest.mark.parametrize(
    "network, figure",
    [
        ("R50 ANAR-3, 3 flows", "5.27 G"),
        pytest.param("R101 ANAR-3, 3 flows", "9.91 G", marks=pytest.mark.whole),
        pytest.param("R152 ANAR-3, 3 flows", "14.6 G", marks=pytest.mark.whole),
    ],
)
def test_known_multiply_adds(network, figure):
    place = "TDAF, table 3a", f"{network}, with the 1x1"
    row = next(row for row in rows_of("tdaf") if (row.where, row.network) == place)
    count = count_row(dataclasses.replace(row, convention="conv"))
    assert abs(relative_error(count.macs, figure)) < 0.0015, count.macs


def test_rows_are_named_once():
    names = [(row.where, row.network) for paper in paper_names() for row in rows_of(paper)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "figure, value, last_digit",
    [
        ("27.65 M", 27_650_000, 10_000),
        ("0.569 G", 569e6, 1e6),
        ("1.22 Gi", 1.22 * 2**30, 2**30 / 100),
        ("12,345,678", 12_345_678, 1),
        ("3 M", 3e6, 1e6),
    ],
)
def test_figures(figure, value, last_digit):
    assert value_of(figure) == pytest.approx((value, last_digit), rel=1e-12)


@pytest.mark.parametrize("figure", ["", "27.65 k", "about 3 M", "27.65M parameters"])
def test_other_figures_are_refused(figure):
    with pytest.raises(ValueError, match="expected digits"):
        value_of(figure)


@pytest.mark.parametrize(
    "count, figure, expected",
    [
        (12_345_678, "12,345,678", "unit"),
        (12_345_679, "12,345,678", "differs"),
        (27_646_001, "27.65 M", "digits"),
        (27_655_000, "27.65 M", "digits"),
        (27_655_001, "27.65 M", "differs"),
        (27_644_999, "27.65 M", "differs"),
        (1_309_965_025, "1.22 Gi", "digits"),
        (1_316_000_000, "1.22 Gi", "differs"),
    ],
)
def test_agreement(count, figure, expected):
    assert agreement(count, figure) == expected


def some_row(**options):
    return Row("X, table 1", "net", "net.py", **options)


def test_report():
    counts = [
        Count(some_row(params="1,000", note="first"), 1000, None),
        Count(some_row(params="1.00 M", macs="2.0 G", convention="full"), 1_001_000, 2_100_000_000),
        Count(some_row(macs="1.00 Gi", note="second"), None, 2**30),
        Count(some_row(params="1,000", note="first"), 998, None),
    ]
    report = paper_report(counts)
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if "X, table" in line
    ]
    assert [row[2:] for row in cells] == [
        ["1,000", "1,000", "0", "to the unit", "", "", "", "", "1"],
        [
            "1.00 M",
            "1,001,000",
            "+0.10%",
            "to the digits",
            "2.0 G (full)",
            "2.1 G",
            "+5.00%",
            "**differs**",
            "",
        ],
        ["", "", "", "", "1.00 Gi (conv)", "1 Gi", "0", "to the digits", "2"],
        ["1,000", "998", "-0.20%", "**differs**", "", "", "", "", "1"],
    ]
    assert "5 figures: 1 met to the unit, 2 to the published digits; 2 differ." in report
    assert report.endswith("1. first.\n2. second.\n")


def test_records():
    row = some_row(params="1.00 M", macs="2.0 G", shape=(3, 8, 8))
    assert Count(row, 1_001_000, 2_100_000_000).record() == {
        "where": "X, table 1",
        "network": "net",
        "note": "",
        "params": {
            "published": "1.00 M",
            "ours": 1_001_000,
            "relative_error": pytest.approx(0.001),
            "agreement": "digits",
        },
        "macs": {
            "published": "2.0 G",
            "ours": 2_100_000_000,
            "relative_error": pytest.approx(0.05),
            "agreement": "differs",
            "convention": "conv",
            "shape": (3, 8, 8),
        },
    }


def test_papers_are_compared_in_order(monkeypatch, capsys):
    monkeypatch.setattr(counting, "count_row", lambda row: row)
    assert compare(["tam", "td"]) == rows_of("tam") + rows_of("td")
    assert not capsys.readouterr().out


def test_missing_frameworks_are_named(monkeypatch):
    monkeypatch.setattr(counting, "find_spec", lambda name: None if name == "mmaction" else name)
    with pytest.raises(UserError, match="--paper needs mmaction, which"):
        compare(["tdaf"])
