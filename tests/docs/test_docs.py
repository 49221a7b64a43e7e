"""The documentation is held to the code: links resolve, words are explained, constants are what the code has."""

import re
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest

from controller.settings import Settings
from models import enums

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
LEFT_OUT = {".git", ".venv", "var", "out", "node_modules"}


def pages() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.md") if not LEFT_OUT & set(path.relative_to(ROOT).parts[:-1]))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    titles = HEADING.findall(without_code(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for match in LINK.finditer(without_code(page.read_text(encoding="utf-8"))):
        target = match.group(1) or match.group(2)
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, fragment = unquote(target).partition("#")
        aim = (page.parent / path).resolve() if path else page
        if not aim.exists() or not aim.is_relative_to(ROOT):
            broken.append(target)
        elif fragment and fragment not in anchors(aim):
            broken.append(f"{target} (no such heading)")
    assert not broken, f"{page.relative_to(ROOT)} links to what is not there: {', '.join(broken)}"


def words() -> list[tuple[str, str]]:
    found = (each for each in vars(enums).values() if isinstance(each, type) and issubclass(each, StrEnum))
    return [(each.__name__, member.value) for each in found if each is not StrEnum for member in each]


@pytest.mark.parametrize(("kind", "word"), words())
def test_the_glossary_explains_every_stored_word(kind: str, word: str) -> None:
    explained = set(CODE.findall((ROOT / "docs/glossary.md").read_text(encoding="utf-8")))
    assert word in explained, f"docs/glossary.md does not explain `{word}` of {kind}"


def test_the_glossary_has_no_word_of_a_table_that_the_code_does_not_store() -> None:
    tables = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").partition("## Stored words")[2]
    firsts = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    assert {word for cell in firsts for word in CODE.findall(cell)} == {word for _, word in words()}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_readme_starts_with_two_commands_that_exist() -> None:
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = re.findall(r"^make ([a-z]+)", blocks[0], re.MULTILINE)
    assert commands == ["run", "test"]
    assert set(commands) <= targets()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
    assert named <= targets(), f"{page.relative_to(ROOT)} names targets that the Makefile lacks: {named - targets()}"


def test_every_decision_record_is_listed_once_and_numbered_in_order() -> None:
    folder = ROOT / "docs/adr"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    listed = re.findall(r"\(([0-9]{4}-[^)]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == records
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))


@pytest.mark.parametrize("record", sorted((ROOT / "docs/adr").glob("[0-9]*.md")), ids=lambda path: path.stem)
def test_a_decision_record_has_its_four_parts(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert text.startswith(f"# {record.name[:4]}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Alternatives"]


def constants() -> list[tuple[float, str]]:
    table = (ROOT / "docs/data-flow.md").read_text(encoding="utf-8").partition("## Constants")[2]
    rows = re.findall(r"^\|[^|]+\| ([0-9.]+) \| `([\w.]+:[\w.]+)` \|$", table, re.MULTILINE)
    assert rows, "docs/data-flow.md has lost its table of constants"
    return [(float(value), where) for value, where in rows]


@pytest.mark.parametrize(("value", "where"), constants())
def test_the_stories_constants_are_those_of_the_code(value: float, where: str) -> None:
    module, _, name = where.partition(":")
    if name.startswith("Settings."):
        found = Settings.model_fields[name.removeprefix("Settings.")].default
    else:
        found = getattr(import_module(module), name)
    assert found == value, f"docs/data-flow.md says {value:g} for {where}, the code {found}"


def layers() -> list[list[str]]:
    contract = (
        (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition('name = "the layers of the controller"')[2]
    )
    lines = re.search(r"^layers = \[\n(.*?)^\]", contract, re.DOTALL | re.MULTILINE)
    assert lines
    return [re.findall(r"\w+", line) for line in lines.group(1).splitlines()]


def test_the_architecture_has_the_layers_of_the_import_contract() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^ +\| [0-9] \| (.+) \|$", text, re.MULTILINE)
    assert [CODE.findall(row) for row in rows] == layers()


def test_the_tree_of_the_architecture_names_every_module_of_the_controller() -> None:
    tree = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## The tree")[2].partition("## ")[0]
    modules = [
        path.stem
        for path in (ROOT / "controller").rglob("*.py")
        if path.stem != "__init__" and path.parts[-2] not in {"store", "api"}
    ]
    missing = sorted(name for name in modules if not re.search(rf"\b{name}\b", tree))
    assert not missing, f"docs/architecture.md does not place {', '.join(missing)}"
