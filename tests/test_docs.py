"""The documents say what the code does, and only what belongs in them."""

import re
from pathlib import Path

import pytest

from vmc import schema_docs

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FOLDERS = "vmc hamiltonians ansatze benchmarks docs examples tests .ci".split()
TEXT = {".py", ".md", ".toml", ".cff", ".yaml", ".yml", ".txt", ".sh", ".ini", ""}

#: What only makes sense to those who happened to write a file.  Spelled so that
#: this file passes its own test.
FORBIDDEN = re.compile(
    r"(?<![\w.])/(?:wo[r]k|ro[o]t|ho[m]e)\b|\bissue[s]?\s*(?:#|no\.?)?\s*\d"
    r"|\bPR\s*#\d|\.\./sha[r]ed\b",
    re.IGNORECASE,
)


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_job_file_reference_is_fresh() -> None:
    page = ROOT / "docs" / "job-file.md"
    cure = "regenerate it: python -m vmc.schema_docs > docs/job-file.md"
    assert page.read_text(encoding="utf-8") == schema_docs.render(), cure


def test_readme_commands_name_files_that_exist() -> None:
    commands = "\n".join(fences("sh"))
    paths = re.findall(r"[\w./-]+\.(?:toml|py)\b", commands)
    assert "examples/tfim_chain.toml" in paths
    missing = [p for p in paths if not (ROOT / p).exists()]
    assert not missing


@pytest.mark.parametrize("mark", ["main", "tests"])
def test_readme_marks_the_commands_that_the_checks_run(mark: str) -> None:
    assert README.count(f"<!-- ci: {mark} -->\n```sh\npython3 -m venv .venv && ") == 1
    assert f"$(readme {mark})" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [x for x in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in x]
    assert not [link for link in links if not (page.parent / link).exists()]
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w/.-]*)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]


def test_no_trace_of_where_it_was_written() -> None:
    paths = [p for p in ROOT.iterdir() if p.is_file()]
    paths += [p for name in FOLDERS for p in (ROOT / name).rglob("*") if p.is_file()]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        if path.suffix in TEXT and "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if FORBIDDEN.search(line)
    ]
    assert not found
