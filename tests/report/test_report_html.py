"""The page: every finding is on it, nothing in it is markup but ours, and it needs nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY, TINY_BASE

import lora_packer
from lora_packer.errors import InputError
from lora_packer.finding import Finding, Unchecked
from lora_packer.inspector import AdapterSummary, BaseModelSummary, Report
from lora_packer.inspector.many import Unreadable
from lora_packer.inspector.norms import ModuleStats
from lora_packer.report import html
from lora_packer.report.html.document import MOST_PICTURES

Cli = Callable[..., Any]
VOID = {"meta", "input"}
# What makes a browser load something, run something or send something.
LOADING = {"script", "link", "iframe", "img", "object", "embed", "form", "base", "video", "audio", "image", "use"}
CHECKED = (str(TINY), "--base-config", str(TINY_BASE))
BROKEN = ROOT / "fixtures" / "broken"

ADAPTER = AdapterSummary("adapters/a", 8, 1536, 8254, ("BF16",), (4, 16))
BASE = BaseModelSummary("org/Base", "catalogue:org/Base", "llama", "ab" * 32)


class Page(HTMLParser):
    """A page that is read: its elements, its text, and whether every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.opened: list[str] = []
        self.pieces: list[str] = []
        self.feed(text)
        self.close()
        assert self.opened == []
        assert text.startswith("<!doctype html>\n<html lang=")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.opened and self.opened[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.strip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]


def report(status: Any = "ok", **changes: Any) -> Report:
    values: dict[str, Any] = {"base_model": BASE, "target": "peft", "findings": (), "unchecked": ()} | changes
    return Report(status, values.pop("adapter", ADAPTER), **values)


def sizes(*items: tuple[str, float | None]) -> tuple[ModuleStats, ...]:
    return tuple(ModuleStats(module, 4, 2.0, norm) for module, norm in items)


def test_a_broken_adapter_through_the_command_line(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    done = cli("check", BROKEN / "nan", "--base-config", TINY_BASE, "--html", place, "--format", "json")
    assert done.code == 1
    told = json.loads(done.out)
    assert "stats" not in told  # nobody asked for them there
    page = Page(place.read_text())
    for finding in told["findings"]:
        for part in (finding["code"], finding["name"], finding["message"], finding["hint"], *finding["tensors"]):
            assert part in page.text
    assert "failed" in page.text
    assert page.all("td", class_="n")  # the update with NaN in it
    assert (
        len([1 for tag, found in page.elements if tag == "td" and re.fullmatch(r"l\d+", found.get("class") or "")]) == 3
    )
    assert place.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_text_is_the_same_with_a_page_and_without(cli: Cli, tmp_path: Path) -> None:
    arguments = ("check", BROKEN / "wrong-hidden-size", "--base-config", TINY_BASE)
    assert cli(*arguments, "--html", tmp_path / "a.html").text == cli(*arguments).text
    assert "Frobenius" in cli(*arguments, "--html", tmp_path / "b.html", "--stats").out
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()


def test_without_the_values_the_page_says_so(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "a.html"
    assert cli("check", *CHECKED, "--no-weights", "--html", place).code == 0
    page = Page(place.read_text())
    assert "Not shown: the tensors' values were not read (--no-weights)." in page.text
    assert "Not checked" in page.text
    assert not page.all("table", class_="heat")


def test_several_adapters_are_one_page_with_an_index(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "all.html"
    names = [TINY, BROKEN / "nan", tmp_path / "nowhere"]
    done = cli("check", *names, "--base-config", TINY_BASE, "--html", place, "--quiet")
    assert done.code == 1
    assert len(done.out.splitlines()) == 3
    page = Page(place.read_text())
    links = [found["href"] for found in page.all("a")]
    assert links == ["#a0", "#a1", "#a2"]
    assert [found["id"] for found in page.all("div") if "id" in found] == ["a0", "a1", "a2"]
    assert [found for found in page.all("details", class_="adapter") if "open" in found] == []
    assert len(page.all("table", class_="heat")) == 2
    assert "3 adapters" in page.text
    assert "there is no folder or archive" in page.text


def test_the_sizes_are_told_of_several_only_where_they_were_asked_for(cli: Cli, tmp_path: Path) -> None:
    arguments = ("check", TINY, BROKEN / "nan", "--base-config", TINY_BASE)
    with_page = cli(*arguments, "--html", tmp_path / "a.html", "--format", "json")
    assert with_page.out == cli(*arguments, "--format", "json").out
    assert cli(*arguments, "--html", tmp_path / "a.html").out == cli(*arguments).out
    assert (
        "stats"
        in json.loads(cli(*arguments, "--stats", "--html", tmp_path / "a.html", "--format", "json").out)["reports"][0]
    )


def test_a_page_of_very_many_has_no_pictures() -> None:
    one = report(stats=sizes(("layers.0.q", 1.0)))
    assert len(Page(html.render([one] * MOST_PICTURES)).all("table", class_="heat")) == MOST_PICTURES
    many = Page(html.render([one] * (MOST_PICTURES + 1)))
    assert not many.all("table", class_="heat")
    assert f"With more than {MOST_PICTURES} adapters there are no pictures." in many.text


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
@pytest.mark.parametrize("several", [False, True])
def test_standard_output_has_the_page_alone(cli: Cli, capfdbinary: Any, name: str, several: bool) -> None:
    done = cli("check", *([TINY] if several else []), *CHECKED, "--html", name)
    assert done.code == 0, done.text
    Page(done.out or capfdbinary.readouterr().out.decode())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--html", "-", "--format", "json"], "--html and --format json would both write to standard output."),
        (["--html", "-", "--format", "sarif"], "--html and --format sarif would both write to standard output."),
        (["--html", "a.txt", "--output", "./a.txt"], "--html and --output would both write to 'a.txt'."),
        (["--html", "-", "--output", "/dev/stdout"], "--html and --output would both write to '-'."),
        (["--html", "none/a.html"], "'none/a.html' cannot be written: there is no folder"),
        (["--html", "."], "cannot be written: it is a folder."),
        (["--html", str(TINY / "adapter_config.json")], "is the adapter's own file; it is not overwritten."),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_where_a_page_cannot_go(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str, several: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("check", *([TINY] if several else []), *CHECKED, *arguments)
    assert done.code == 2, done.text
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_report_an_old_page_stays_as_it_is(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "a.html"
    place.write_text("old")
    assert cli("check", tmp_path / "nowhere", "--html", place).code == 2
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_patterns_that_are_not_evaluated_spoil_no_page(tmp_path: Path) -> None:
    """With --stats they are an error: a norm cannot be had. The page says so, and the findings are what they were."""
    import shutil

    folder = tmp_path / "a"
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "alpha_pattern": {"(a)\\1(?<=b)": 8}}))
    with pytest.raises(InputError):
        lora_packer.check(folder, base_config=TINY_BASE, stats=True)
    found = lora_packer.check(folder, base_config=TINY_BASE, stats="if-read")
    assert found.stats == ()
    assert found.findings == lora_packer.check(folder, base_config=TINY_BASE).findings
    assert "there is no pair of lora_A and lora_B whose size can be computed" in Page(html.render([found])).text


HOSTILE = [
    "</style><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) x=\"",
    "<!--", "]]>", "&lt;b&gt;&#60;", "javascript:alert(1)",
    "\x1b[31mred\x1b[0m\x07\x00",
    "\u202egnp.exe\u2066\u2069\u200f\u2028\udcff",
    "https://elsewhere.example/x.js",
    "x" * 9000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_from_a_file_becomes_markup(text: str) -> None:
    finding = Finding(
        "LP301", text, "error", text, file=text, tensor=text, field=text, count=2, expected=[text, text], actual=text,
        hint=text, fixable=True, tensors=(text, text), targets=("peft", text),
    )  # fmt: skip
    adapter = AdapterSummary(text, 1, 1, 1, (text,), (1,))
    base = BaseModelSummary(text, text, text, text)
    stats = sizes((f"{text}.layers.0.{text}", 1.0), (f"{text}.layers.1.{text}", None), (text, 2.0))
    made = report(
        "failed", adapter=adapter, base_model=base, target=text, findings=(finding,),
        unchecked=(Unchecked(text, text),), stats=stats,
    )  # fmt: skip
    unread = Unreadable(adapter, text, InputError(text, hint=text))
    plain = Page(
        html.render([report("failed", findings=(Finding("LP301", "n", "error", "m"),), stats=sizes(("l.0.q", 1.0)))])
    )
    names = {name for name, _ in plain.elements} | {"ol", "li", "a", "td", "p", "b"}
    for results in ([made], [unread], [made, unread]):
        page = Page(html.render(results))
        assert {name for name, _ in page.elements} & LOADING == set()
        assert not any(
            name.startswith("on") or name in ("src", "style") for _, found in page.elements for name in found
        )
        assert all((found["href"] or "").startswith("#") for found in page.all("a"))
        assert not re.search(
            r"[\x00-\x09\x0b-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", page.source
        )
        assert {name for name, _ in page.elements} - names <= {"code", "details", "summary", "table", "thead", "tbody", "tr", "th", "caption", "rect", "line", "path", "title", "svg", "span", "i", "dl", "dt", "dd", "ul", "figure", "figcaption"}  # fmt: skip
        page.source.encode()


def test_a_credential_is_not_shown() -> None:
    secret = "hf_" + "A1b2" * 9
    made = html.render([report("failed", findings=(Finding("LP301", "n", "error", f"see {secret}"),))])
    assert secret not in made
    assert "see ***" in made


def test_the_only_style_that_applies_is_the_page_s_own() -> None:
    made = html.render([report()])
    (style,) = re.findall(r"<style>(.*?)</style>", made, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [found for found in Page(made).all("meta") if "http-equiv" in found]
    assert policy["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|https?:", style)


def test_the_heat_map_has_a_cell_for_each_layer_and_says_its_number() -> None:
    stats = sizes(
        *((f"model.layers.{n}.self_attn.q_proj", n + 1.0) for n in range(4)),
        ("model.layers.0.mlp.up_proj", 0.0), ("model.layers.1.mlp.up_proj", None), ("lm_head", 2.0),
    )  # fmt: skip
    page = Page(html.render([report(stats=stats)]))
    classes = [found.get("class") for name, found in page.elements if name == "td" and found.get("class") != "number"]
    assert classes[:8] == ["l4", "l8", "l12", "l16", "z", "n", None, None]
    for told in ("layer 3, self_attn.q_proj: 4", "layer 0, mlp.up_proj: 0", "layer 1, mlp.up_proj: not computed"):
        assert told in page.text
    assert "Outside of the layers" in page.text
    labels = [found["aria-label"] or "" for found in page.all("svg") if "aria-label" in found]
    assert "self_attn.q_proj: least 1 in layer 0, most 4 in layer 3" in labels
    assert all(f".l{at} {{" in page.source for at in range(1, 17))


def test_two_stacks_of_layers_are_two_maps() -> None:
    stats = sizes(("encoder.block.0.q", 1.0), ("decoder.block.0.q", 2.0), ("decoder.block.1.q", 3.0))
    page = Page(html.render([report(stats=stats)]))
    assert len(page.all("table", class_="heat")) == 2
    assert "encoder.block" in page.text


def test_findings_of_targets_that_do_not_decide_are_folded(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "a.html"
    cli("check", *CHECKED, "--target", "all", "--html", place)
    page = Page(place.read_text())
    assert "Where it will run" in page.text
    assert len(page.all("span", class_="tag")) == 1  # "decides"
    assert page.all("details", class_="others")
    assert "for targets that do not decide" in page.text


def test_what_is_suppressed_is_folded_with_its_reason(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = {"rule": "LP306", "adapter": "*", "reason": "known <b>and</b> taken"}
    settings = "[[suppress]]\n" + "".join(f"{name} = '{value}'\n" for name, value in taken.items())
    (tmp_path / "lora-packer.toml").write_text(settings)
    done = cli("check", BROKEN / "missing-lora-b", "--base-config", TINY_BASE, "--html", "a.html")
    assert done.code == 0, done.text
    page = Page((tmp_path / "a.html").read_text())
    for told in ("1 suppressed", "known <b>and</b> taken", "LP306", "lora_B is missing for 1 module"):
        assert told in page.text


def test_the_python_check_takes_no_other_word_for_stats(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stats"):
        lora_packer.check(TINY, base_config=TINY_BASE, stats="yes")  # type: ignore[arg-type]
