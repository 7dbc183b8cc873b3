"""The report of a suite: honest marks, nothing foreign as markup, one quiet page."""

from __future__ import annotations

import html.parser
import importlib.util
import itertools
import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import markdown_it
import pytest

from tests.bench.report_example import LOST, PROBLEMS, cell, example
from vmc import bench_report_png
from vmc.bench_report import write_report
from vmc.bench_report_figures import figures
from vmc.bench_report_model import DARK, LIGHT
from vmc.bench_report_rows import best, grouped
from vmc.bench_report_text import (
    compact,
    energy_text,
    general,
    markdown,
    scientific,
    tag,
    with_error,
)

EVIL = '<script>alert(1)</script>"onload=alert(2) `|*_$x$[a](javascript:alert(3))\x1b'

CHAIN, SQUARE, FRUSTRATED = PROBLEMS


class Page(html.parser.HTMLParser):
    """Tags, attributes and texts of a page, and whether its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)


def written(
    folder: Path,
    results: Sequence[Mapping[str, Any]],
    baselines: Sequence[Mapping[str, Any]] = (),
    **suite: Any,
) -> tuple[str, str]:
    """The page and the Markdown text of a report."""
    paths = write_report(folder, {"name": "quick"} | suite, results, baselines)
    assert [p.name for p in paths[:2]] == ["report.html", "report.md"]
    assert all(p.is_file() for p in paths)
    return paths[0].read_text("utf-8"), paths[1].read_text("utf-8")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """PNG files take seconds; one test draws them."""
    monkeypatch.setattr(bench_report_png, "installed", lambda: False)


@pytest.fixture
def report(tmp_path: Path, no_pictures: None) -> tuple[str, str]:
    """Of the example."""
    suite, results, published = example()
    return written(tmp_path, results, published, **suite)


def test_verdicts_and_the_best(report: tuple[str, str]) -> None:
    _, results, published = example()
    groups = grouped(results)
    states = {(g.problem, g.method): g.verdict[0] for g in groups}
    assert len(states) == 12
    assert states[CHAIN, "cnn"] == states[SQUARE, "rbm"] == "passed"
    assert states[SQUARE, "vit"] == "failed", "one of its seeds ended with an error"
    assert states[CHAIN, "jastrow"] == "failed", "below the exact energy"
    assert states[FRUSTRATED, "rbm"] == "incomplete", "stale is not done"
    assert states[FRUSTRATED, "jastrow"] == "incomplete"
    leaders = {one.problem: one for one in best(groups, published)}
    # Jastrow's energy is the lowest, and impossible.
    assert leaders[CHAIN].group is not None and leaders[CHAIN].group.method == "vit"
    assert leaders[CHAIN].published is not None
    assert leaders[CHAIN].published["method"].startswith("DMRG"), "a state, not exact"
    page, text = report
    for one in (page, text):
        assert "Of 12 combinations of problem and ansatz: 7 passed, 3 failed" in (
            one.replace("\\", "")
        )


def test_errors_stale_marks_and_doubts_are_said(report: tuple[str, str]) -> None:
    text = " ".join(Page(report[0]).texts)
    assert "seed 2 failed: NumericalError: the energy is nan" in text
    assert "seed 3 missing: not run yet" in text
    assert "all seeds stale: vmc 0.0.9, now 0.1.0" in text
    assert (
        "all seeds below the exact energy by more than noise: cannot be right" in text
    )
    assert "\u25bc (\u22123.000" in text, "marked in the table"
    assert "Left out: gcnn on tfim_chain_64_P_h1: too slow here" in text
    assert "PNG files of the figures need matplotlib" in text
    assert "AMD EPYC 9354" in text and "2026-11-21 to 2026-11-23" in text
    for line in ("NumericalError", "not run yet", "vmc 0", "AMD EPYC", "too slow"):
        assert line in report[1]


def test_an_error_below_its_noise_is_an_upper_limit() -> None:
    exact, sigma = PROBLEMS[CHAIN][1], 1e-5
    noise = {"relative_error_sigma": sigma, "energy_error": sigma * abs(exact)}

    def mark(relative: float, **more: Any) -> Any:
        changes = {"energy": exact * (1 - relative), "relative_error": relative}
        one = cell(CHAIN, "rbm", 1, **changes | noise | more)
        (panel,) = figures(grouped([one]), [])[1].panels
        ((found,),) = [trace.marks for trace in panel.traces]
        return found

    assert mark(1.5e-5).limit and mark(1.5e-5).y == pytest.approx(3.5e-5)
    assert mark(-1.5e-5).limit and mark(-1.5e-5).y == pytest.approx(2e-5)
    clear = mark(3e-5)
    assert not clear.limit and (clear.low, clear.high) == pytest.approx((2e-5, 4e-5))
    # The same value, compared to a reference that is known to 2e-5 only.
    vague = {"energy": exact, "uncertainty": 2e-5 * abs(exact), "kind": "qmc"}
    found = mark(3e-5, reference=vague | {"source": ""})
    assert found.limit and found.y == pytest.approx(3e-5 + 2 * math.hypot(1e-5, 2e-5))


def test_below_the_reference_is_an_error_only_where_it_cannot_be() -> None:
    exact = PROBLEMS[CHAIN][1]
    low = {"relative_error": -1e-3, "energy": exact * 1.001}
    for kind, named in (("exact", True), ("qmc", True), ("best variational", False)):
        known = {"energy": exact, "uncertainty": 0.0, "kind": kind, "source": ""}
        found = cell(CHAIN, "rbm", 1, reference=known, rule=None, **low)
        (leader,) = best(grouped([found]), [])
        assert (leader.group is None) == named, kind


def test_nothing_foreign_is_markup(tmp_path: Path, no_pictures: None) -> None:
    _, results, published = example()
    evil = dict.fromkeys(("problem", "ansatz", "error", "lattice", "why"), EVIL)
    foreign = [r | evil | {"machine": {EVIL: EVIL}, "date": EVIL} for r in results[:3]]
    foreign[1] |= {"status": "failed", "source": EVIL, "job": {EVIL: {EVIL: EVIL}}}
    foreign[0]["reference"] = foreign[0]["reference"] | {"source": EVIL}
    foreign[2]["parts"] = {EVIL: 1.0}
    published = [b | {"problem": EVIL, "method": EVIL} for b in published[:2]]
    left = [{"problem": EVIL, "ansatz": EVIL, "reason": EVIL}]
    texts = {"description": EVIL, "excluded": left, "suite": {EVIL: EVIL}}
    page, text = written(tmp_path, foreign, published, name=EVIL, **texts)

    found = Page(page)
    assert [name for name, _ in found.tags].count("script") == 1
    names = {name for _, attributes in found.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    shown = EVIL.replace("\x1b", "\ufffd")
    assert sum(shown in one for one in found.texts) > 20, "shown as it is"
    values = {v for _, attributes in found.tags for v in attributes.values()}
    assert shown in values

    # As a Markdown reader sees it: no element and no link but those of the report.
    tokens = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    flat = [t for one in tokens.parse(text) for t in [one, *(one.children or [])]]
    kinds = {token.type for token in flat}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "code_block"}
    assert not kinds & {"code_inline", "em_open", "fence"}
    written_as = [t.content for t in flat if t.type == "inline"]
    plain = tokens.render(text)
    assert "<script" not in plain and "&lt;script&gt;alert(1)" in plain
    assert len(written_as) > 10


def test_the_page_asks_for_nothing(report: tuple[str, str]) -> None:
    found = Page(report[0])
    names = {name for name, _ in found.tags}
    assert not names & {"link", "img", "iframe", "object", "image", "use", "a", "base"}
    loading = {"src", "href", "xlink:href", "srcset", "action", "style", "data"}
    assert not [a for _, attributes in found.tags for a in attributes if a in loading]
    assert "url(" not in report[0] and "@import" not in report[0]
    (policy,) = [a["content"] for _, a in found.tags if "http-equiv" in a]
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_those_who_cannot_see_have_every_value(report: tuple[str, str]) -> None:
    found = Page(report[0])
    drawings = [a for name, a in found.tags if name == "svg" and a.get("role") == "img"]
    assert len(drawings) == 15, "5 figures of 3 problems"
    assert all(a["aria-label"] for a in drawings)
    assert sum("All values of this figure" in one for one in found.texts) == 5
    unlabelled = [a for name, a in found.tags if name == "th" and "scope" not in a]
    assert not unlabelled
    text = " ".join(found.texts)
    assert f"{CHAIN}, vit, seed 1:" in text and "a limit" in text


def test_an_empty_suite_has_a_report(tmp_path: Path, no_pictures: None) -> None:
    lost = [cell(CHAIN, "rbm", 1, **LOST, status="missing", reference=None, rule=None)]
    for results in ([], lost):
        page, text = written(tmp_path, results)
        assert "No result has a V-score yet." in page and "0 passed" in text
        Page(page)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (scientific(1.234e-4), "1.2e-4"),
        (scientific(-0.0), "0"),
        (scientific(None), "\u2013"),
        (scientific(7.94), "7.9"),
        (general(12345.6), "12,346"),
        (general(0.01234), "0.0123"),
        (general(-2.0), "\u22122.00"),
        (with_error(1.234e-4, 4.1e-6), "(1.234 \u00b1 0.041)e-4"),
        (with_error(-1e-6, 2e-5), "(\u22120.1 \u00b1 2.0)e-5"),
        (with_error(1e-4, None), "1.00e-4"),
        (with_error(0.3587672, 6.2e-6), "0.35877 \u00b1 6e-6"),
        (energy_text(-81.495512, 0.00123), "\u221281.4955 \u00b1 0.0012"),
        (energy_text(-81.49551266892573, 6.4e-11), "\u221281.49551267 \u00b1 6e-11"),
        (compact(296955), "297k"),
        (compact(9994.0), "9,994"),
        (compact(999_600), "1.00M"),
        (energy_text(-4.0, 0.0), "\u22124"),
        (tag("p", "<b>", class_="x", hidden=True, id=None),
         '<p class="x" hidden>&lt;b&gt;</p>'),
        (markdown("a|b\n<i>"), "a\\|b &lt;i&gt;"),
        (markdown("- tfim_64_ _x $5"), "\\- tfim_64\\_ \\_x \\$5"),
        (markdown("1) one"), "1\\) one"),
        (markdown("lone \ud800, right\u202eleft"), "lone ?, right\ufffdleft"),
    ],
)  # fmt: skip
def test_texts(text: str, expected: str) -> None:
    assert text == expected


#: What deuteranopes, protanopes and tritanopes see of linear RGB (Machado, Oliveira
#: and Fernandes 2009, severity 1).
BLIND = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
)


def linear(color: str) -> list[float]:
    """Linear RGB of "#rrggbb"."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def oklab(rgb: Sequence[float]) -> list[float]:
    """Perceptual coordinates (Ottosson 2020)."""
    r, g, b = (min(max(x, 0.0), 1.0) for x in rgb)
    cones = (
        0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b,
        0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b,
        0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b,
    )
    one, two, three = (x ** (1 / 3) for x in cones)
    return [
        0.2104542553 * one + 0.7936177850 * two - 0.0040720468 * three,
        1.9779984951 * one - 2.4285922050 * two + 0.4505937099 * three,
        0.0259040371 * one + 0.7827717662 * two - 0.8086757660 * three,
    ]


@pytest.mark.parametrize(
    ("colors", "paper"), [(LIGHT, "#ffffff"), (DARK, "#15181d")], ids=["light", "dark"]
)
def test_colors_differ_for_every_eye(colors: Sequence[str], paper: str) -> None:
    def luminance(color: str) -> float:
        return sum(
            a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear(color), strict=True)
        )

    for color in colors:
        both = sorted([luminance(color) + 0.05, luminance(paper) + 0.05])
        assert both[1] / both[0] >= 3, f"{color} on {paper} (WCAG 1.4.11)"
    for eye in BLIND:
        seen = [
            oklab(
                [sum(a * b for a, b in zip(row, linear(c), strict=True)) for row in eye]
            )
            for c in colors
        ]
        assert min(itertools.starmap(math.dist, itertools.combinations(seen, 2))) > 0.1


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)
@pytest.mark.slow
def test_pictures(tmp_path: Path) -> None:
    suite, results, published = example()
    foreign = [r | {"ansatz": "_$a$ \u4e2d " + EVIL} for r in results if r["seed"] == 1]
    paths = write_report(tmp_path, suite, [*results, *foreign], published)
    assert len(paths) == 7
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in paths[2:])
    text = paths[1].read_text("utf-8")
    assert all(f"({p.name})" in text for p in paths[2:])
    assert len(list(tmp_path.iterdir())) == 7, "nothing else is left"


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def browse(tmp_path: Path, width: int, page: str, *arguments: str) -> str:
    """What a browser without a window says to a page."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu"]
    command += ["--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--window-size={width},3000", "--enable-logging=stderr", "--v=0"]
    done = subprocess.run(
        [*command, *arguments, page], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, "a script error, or something refused"
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 420])
def test_a_browser_shows_it(tmp_path: Path, no_pictures: None, width: int) -> None:
    suite, results, published = example()
    evil = [r | {"ansatz": EVIL} for r in results if r["ansatz"] == "rbm"]
    written(tmp_path, [*results, *evil], published, **suite)
    page = (tmp_path / "report.html").as_uri()

    # The script ran (filters shown, heads are buttons), and ours alone.
    after = browse(tmp_path, width, page, "--dump-dom")
    assert '<form id="filters"' in after and "27 of 27 rows</output>" in after
    assert after.count('<button type="button">') == 15
    browse(tmp_path, width, page, f"--screenshot={tmp_path / 'shot.png'}")
    shot = (tmp_path / "shot.png").read_bytes()
    assert shot[:4] == b"\x89PNG" and len(shot) > 100_000, "not a blank page"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
@pytest.mark.slow
def test_sorting_and_filtering(tmp_path: Path, no_pictures: None) -> None:
    suite, results, published = example()
    page, _ = written(tmp_path, results, published, **suite)
    clicks = """
      const form = document.getElementById("filters");
      form.elements.problem.value = "heis_square_6x6_P";
      form.dispatchEvent(new Event("input"));
      const head = [...document.querySelectorAll("#results thead th")].find(
        (one) => one.textContent === "relative error");
      head.firstChild.click();
      head.firstChild.click();
    """
    # Somebody at the page: its policy would not let this script in.
    start, end = page.index('<meta http-equiv="Content'), page.index('<meta name="view')
    page = page[:start] + page[end:].replace("</body>", f"<script>{clicks}</script>")
    (tmp_path / "clicked.html").write_text(page, encoding="utf-8")
    where = (tmp_path / "clicked.html").as_uri()
    after = Page(browse(tmp_path, 1400, where, "--dump-dom"))
    rows = after.tags[: [name for name, _ in after.tags].index("figure")]
    kept = [a for name, a in rows if name == "tr" and "hidden" not in a][-8:]
    assert {a["data-problem"] for a in kept} == {SQUARE}
    hidden = [a for name, a in rows if name == "tr" and "hidden" in a]
    assert len(hidden) == 16
    assert "descending" in {a.get("aria-sort") for name, a in rows if name == "th"}
    # Jastrow of the suite has 3e-3, those published 2e-2, 9e-3, 1e-5 and 0.
    assert [a["data-method"] for a in kept if "data-method" in a] == [
        "jastrow",
        "rbm",
        "cnn",
        "vit",
    ]
    assert "data-method" not in kept[0] and "data-method" not in kept[-1]
    panels = [a for name, a in after.tags if name == "section" and "data-problem" in a]
    assert [a["data-problem"] for a in panels if "hidden" not in a] == [SQUARE] * 5
