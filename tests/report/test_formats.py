"""SARIF, JUnit XML and GitHub's workflow commands: what `check --format` prints, alone on stdout, and what it cannot be made to print."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from builders import PREFIX, ROOT, TINY, TINY_BASE, ones, tiny_config, tiny_tensors, write_adapter

from lora_packer.adapter.config_lines import field_lines
from lora_packer.redact import inert, inert_json, inert_xml

Cli = Callable[..., Any]
FORMATS = ("sarif", "junit", "github")
HALF = ROOT / "fixtures" / "broken" / "missing-lora-b"


def check(cli: Cli, form: str, *arguments: object, base: Path | None = TINY_BASE) -> Any:
    against = ["--base-config", base] if base else []
    return cli("check", *arguments, *against, "--format", form)


def sarif(text: str) -> dict[str, Any]:
    log = json.loads(text)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    return run  # type: ignore[no-any-return]


# As the runner reads a line: github.com/actions/runner src/Runner.Common/ActionCommand.cs.
def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    found = []
    for line in text.splitlines():
        assert line.startswith("::"), line
        info, _, data = line[2:].partition("::")
        name, _, properties = info.partition(" ")
        pairs = dict(item.split("=", 1) for item in properties.split(",") if item)
        found.append((name, {key: undone(value, prop=True) for key, value in pairs.items()}, undone(data)))
    return found


def undone(text: str, *, prop: bool = False) -> str:
    for written, meant in [("%0D", "\r"), ("%0A", "\n"), *([("%3A", ":"), ("%2C", ",")] if prop else []), ("%25", "%")]:
        text = text.replace(written, meant)
    return text


# --- what they say ---------------------------------------------------------------------------------------------------


def test_sarif_has_the_rule_the_place_and_what_the_run_came_to(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = check(cli, "sarif", HALF)
    assert (result.code, result.err) == (1, "")
    run = sarif(result.out)
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["semanticVersion"]) == ("lora-packer", "0.1.0")
    (rule,) = driver["rules"]
    assert (rule["id"], rule["name"], rule["defaultConfiguration"]) == ("LP306", "half-pair", {"level": "error"})
    assert {"shortDescription", "fullDescription", "help"} <= set(rule)
    assert {"text", "markdown"} == set(rule["help"])
    (found,) = run["results"]
    assert (found["ruleId"], found["ruleIndex"], found["level"]) == ("LP306", 0, "error")
    assert found["message"]["text"].startswith("lora_B is missing for 1 module")
    assert found["message"]["text"].endswith("Save the adapter again; half of it was lost.")
    (location,) = found["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "fixtures/broken/missing-lora-b/adapter_model.safetensors"},
        "region": {"startLine": 1},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"].endswith("layers.0.self_attn.q_proj.lora_B.weight")
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 1, "toolExecutionNotifications": []}]


def test_junit_has_a_failure_for_the_finding_and_a_case_for_each_group(cli: Cli) -> None:
    result = check(cli, "junit", HALF)
    assert (result.code, result.err) == (1, "")
    root = ElementTree.fromstring(result.out)
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("errors")) == ("testsuites", "5", "1", "0")
    (suite,) = root
    names = [case.get("name", "") for case in suite.findall("testcase")]
    assert [name for name in names if not name.startswith("LP")] == ["files", "config", "values", "target"]
    (failure,) = suite.iter("failure")
    assert failure.get("type") == "LP306"
    assert "next: Save the adapter again; half of it was lost." in (failure.text or "")


def test_github_has_an_annotation_and_the_verdict(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = check(cli, "github", HALF)
    assert (result.code, result.err) == (1, "")
    found, last = commands(result.out)
    where = {"file": "fixtures/broken/missing-lora-b/adapter_model.safetensors", "line": "1"}
    assert found[:2] == ("error", {**where, "title": "LP306 half-pair"})
    assert found[2].splitlines()[0] == "lora_B is missing for 1 module, whose other half is in the file"
    assert last[0] == "notice"
    assert last[2].endswith("missing-lora-b: failed: 1 error, 0 warnings")


def test_a_config_field_is_shown_on_its_line(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_adapter(Path("a"), None, json.dumps(tiny_config(brand_new=1), indent=2))
    line = 1 + (folder / "adapter_config.json").read_text().splitlines().index('  "brand_new": 1')
    (found,) = sarif(check(cli, "sarif", folder).out)["results"]
    place = found["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "a/adapter_config.json"}, "region": {"startLine": line}}
    assert found["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "brand_new", "kind": "property"}]
    (warning, _) = commands(check(cli, "github", folder).out)
    assert warning[:2] == (
        "warning",
        {"file": "a/adapter_config.json", "line": str(line), "title": "LP203 unknown-field"},
    )


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"r": 8}', {"r": 1}),
        ('{\n"a": {"r": 1,\n"b": 2},\n\n"r"\n: 8}', {"a": 2, "r": 5}),
        ('\ufeff{\r\n"r": 8,\r\n"r": 9}', {"r": 3}),
        ('{"a": "x: {y", "b": ["r:",\n "q"],\n "c\\"d": 1}', {"a": 1, "b": 1, 'c\\"d': 3}),
        ('[{"r": 8}]', {}),
        ('{"a": 1,\n"b', {"a": 1}),
        ("}}}:::", {}),
        ("", {}),
    ],
)
def test_the_line_of_a_field(text: str, lines: dict[str, int]) -> None:
    assert field_lines(text.encode()) == lines


def test_warnings_pass_unless_they_are_to_fail(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(brand_new=1))
    passed = ElementTree.fromstring(check(cli, "junit", folder).out)
    assert passed.get("failures") == "0"
    (out,) = passed.iter("system-out")
    assert (out.text or "").startswith("warning LP203 unknown-field: ")
    failed = ElementTree.fromstring(check(cli, "junit", folder, "--fail-on", "warning").out)
    assert failed.get("failures") == "1"


def test_infos_are_notes_and_notices(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(use_rslora=True))
    (found,) = sarif(check(cli, "sarif", folder, "--target", "peft").out)["results"]
    assert (found["ruleId"], found["level"]) == ("LP210", "note")
    assert commands(check(cli, "github", folder, "--target", "peft").out)[0][0] == "notice"


# --- what could not be checked, or read ------------------------------------------------------------------------------


@pytest.fixture
def baseless(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=None))


def test_an_inconclusive_check_is_never_fine(cli: Cli, baseless: Path) -> None:
    result = check(cli, "sarif", baseless, base=None)
    assert result.code == 3
    (invocation,) = sarif(result.out)["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 3)
    errors = [item for item in invocation["toolExecutionNotifications"] if item["level"] == "error"]
    assert any("--base-config" in item["message"]["text"] for item in errors)
    root = ElementTree.fromstring(check(cli, "junit", baseless, base=None).out)
    assert int(root.get("errors", "0")) >= 1
    assert "tensors" not in [case.get("name") for case in root.iter("testcase")]
    assert "error" in [name for name, *_ in commands(check(cli, "github", baseless, base=None).out)]


def test_what_was_left_out_on_purpose_is_skipped(cli: Cli) -> None:
    (invocation,) = sarif(check(cli, "sarif", TINY, "--no-weights").out)["invocations"]
    assert invocation["executionSuccessful"]
    assert {item["level"] for item in invocation["toolExecutionNotifications"]} == {"note"}
    root = ElementTree.fromstring(check(cli, "junit", TINY, "--no-weights").out)
    assert (root.get("errors"), root.get("skipped")) == ("0", "1")
    assert {name for name, *_ in commands(check(cli, "github", TINY, "--no-weights").out)} == {"notice"}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere"], 2, "no folder or archive"),
        (["--no-such-option"], 2, "No such option"),
        ([], 2, "Missing argument"),
        ([TINY, "--fail-on", "info"], 2, "Invalid value"),
        ([TINY, "--stats", "--no-weights"], 2, "--stats"),
    ],
)
def test_an_error_has_the_same_form(cli: Cli, form: str, arguments: list[object], code: int, says: str) -> None:
    result = check(cli, form, *arguments)
    assert result.code == code
    assert says in result.err
    assert says in told(form, result.out)


def told(form: str, out: str) -> str:
    """What an output says of one error."""
    if form == "sarif":
        run = sarif(out)
        (invocation,) = run["invocations"]
        assert (invocation["executionSuccessful"], run["results"]) == (False, [])
        (notification,) = invocation["toolExecutionNotifications"]
        return str(notification["message"]["text"])
    if form == "junit":
        root = ElementTree.fromstring(out)
        assert (root.get("tests"), root.get("errors")) == ("1", "1")
        (error,) = root.iter("error")
        return str(error.get("message"))
    (command,) = commands(out)
    assert command[0] == "error"
    return command[2]


@pytest.mark.parametrize("form", FORMATS)
def test_other_commands_do_not_have_them(cli: Cli, form: str) -> None:
    result = cli("pack", TINY, "--format", form)
    assert (result.code, result.out) == (2, "")
    assert f"'{form}' is not one of" in result.err


# --- several adapters, targets and files -----------------------------------------------------------------------------


def test_several_adapters_are_one_document(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    these = (TINY, HALF, "nowhere", ROOT / "fixtures" / "broken" / "nan")
    result = check(cli, "sarif", *these)
    assert result.code == 1
    run = sarif(result.out)
    assert [item["id"] for item in run["tool"]["driver"]["rules"]] == ["LP306", "LP401"]
    assert [(item["ruleId"], item["ruleIndex"]) for item in run["results"]] == [("LP306", 0), ("LP401", 1)]
    assert [item["status"] for item in run["properties"]["adapters"]] == ["ok", "failed", "unreadable", "failed"]
    assert run["invocations"][0]["executionSuccessful"] is False
    result = check(cli, "junit", *these)
    assert result.code == 1
    assert [suite.get("name") for suite in ElementTree.fromstring(result.out)] == [str(one) for one in these]
    result = check(cli, "github", *these)
    assert result.code == 1
    assert [name for name, *_ in commands(result.out)] == ["notice", "error", "notice", "error", "error", "notice"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_manifest_of_one(cli: Cli, form: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"adapter,base_config\n{HALF},{TINY_BASE}\n")
    result = check(cli, form, "--manifest", tmp_path / "list.csv", base=None)
    assert (result.code, result.err) == (1, "")
    assert "LP306" in result.out


def test_a_finding_says_for_which_targets_it_holds(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(bias="all"))
    asked = ("--target", "peft,vllm", "--no-weights")
    found = {item["ruleId"]: item for item in sarif(check(cli, "sarif", folder, *asked).out)["results"]}
    assert found["LP505"]["properties"]["targets"] == ["vllm"]
    assert "targets: vllm." in found["LP505"]["message"]["text"]
    assert "targets: vllm" in check(cli, "junit", folder, *asked).out
    assert any("targets: vllm" in text for *_, text in commands(check(cli, "github", folder, *asked).out))


@pytest.mark.parametrize("form", FORMATS)
def test_what_holds_for_no_target_that_decides_is_not_told(cli: Cli, form: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(use_rslora=True))
    told = re.compile('"ruleId": "LP506"|testcase name=.LP506|title=LP506')
    assert told.search(check(cli, form, folder, "--target", "sglang").out)
    assert not told.search(check(cli, form, folder, "--target", "all").out)


@pytest.mark.parametrize("form", FORMATS)
def test_output_goes_to_the_file_and_nowhere_else(cli: Cli, form: str, tmp_path: Path) -> None:
    printed = check(cli, form, HALF)
    result = check(cli, form, HALF, "--output", tmp_path / "report")
    assert (result.code, result.out) == (1, "")
    assert (tmp_path / "report").read_text() == printed.out
    assert check(cli, form, HALF, "--output", "-").out == printed.out


@pytest.mark.parametrize("form", FORMATS)
def test_a_narrow_terminal_and_a_plain_locale_change_nothing(
    cli_process: Cli, cli: Cli, form: str, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "größe", None, tiny_config(brand_new=1))
    narrow = {"COLUMNS": "20", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    result = cli_process("check", folder, "--base-config", TINY_BASE, "--format", form, env=narrow)
    assert (result.code, result.err) == (0, "")
    plain = check(cli, form, folder).out
    assert result.out == (plain if form != "github" else plain.encode("ascii", "backslashreplace").decode())


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("plain", "plain"),
        ("with space", "with%20space"),
        ("C:\\adapters\\mine", "C%3A%5Cadapters%5Cmine"),
        ("a,b:c%20d", "a%2Cb%3Ac%2520d"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("a&b<c>'d\"", "a%26b%3Cc%3E%27d%22"),
        ("::error::x", "%3A%3Aerror%3A%3Ax"),
        ("line\nbreak", "line%0Abreak"),
        ("é\udcff", "%C3%A9%FF"),
    ],
)
def test_odd_names(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path / name, None, tiny_config(brand_new=1))
    (found,) = sarif(check(cli, "sarif", name).out)["results"]
    assert found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == f"{uri}/adapter_config.json"
    ElementTree.fromstring(check(cli, "junit", name).out)
    (warning, last) = commands(check(cli, "github", name).out)
    assert warning[1].keys() == {"file", "line", "title"}
    assert last[0] == "notice"


def test_places_are_below_the_checkout_wherever_the_command_runs(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "repo" / "sub" / "a", None, tiny_config(brand_new=1))
    monkeypatch.chdir(tmp_path / "repo" / "sub")
    assert uri(cli, "a") == "a/adapter_config.json"
    assert uri(cli, tmp_path / "repo" / "sub" / "a") == "a/adapter_config.json"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "repo"))
    assert uri(cli, "a") == "sub/a/adapter_config.json"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "other"))
    assert uri(cli, "a") == "a/adapter_config.json"
    monkeypatch.chdir(tmp_path / "repo" / "sub" / "a")
    assert uri(cli, ".") == "adapter_config.json"
    monkeypatch.chdir("/")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(TINY))
    outside = tmp_path / "repo" / "sub" / "a"
    monkeypatch.chdir(tmp_path / "repo" / "sub" / "a" / "..")
    monkeypatch.chdir(TINY)
    assert uri(cli, outside) == f"{outside.resolve().as_uri()}/adapter_config.json"


def uri(cli: Cli, adapter: object) -> str:
    (found,) = sarif(check(cli, "sarif", adapter).out)["results"]
    return str(found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def test_an_archive_is_the_place_of_what_is_inside(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_adapter(tmp_path / "a", None, json.dumps(tiny_config(brand_new=1), indent=2))
    with zipfile.ZipFile("a.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    (found,) = sarif(check(cli, "sarif", "a.zip").out)["results"]
    place = found["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("a.zip", 1)
    assert found["properties"]["file"] == "adapter_config.json"


# --- fingerprints ----------------------------------------------------------------------------------------------------


def prints(cli: Cli, folder: Path) -> list[str]:
    return [item["partialFingerprints"]["lora-packer/v1"] for item in sarif(check(cli, "sarif", folder).out)["results"]]


def test_a_fingerprint_is_of_the_cause_alone(cli: Cli, tmp_path: Path) -> None:
    one = prints(cli, write_adapter(tmp_path / "a", None, tiny_config(brand_new=1)))
    moved = prints(cli, write_adapter(tmp_path / "b" / "c", None, json.dumps(tiny_config(brand_new="other"), indent=8)))
    assert one == moved
    other = prints(cli, write_adapter(tmp_path / "d", None, tiny_config(another=1)))
    assert one != other
    both = prints(cli, write_adapter(tmp_path / "e", {**tiny_tensors(), "foo": ones(2)}, tiny_config(brand_new=1)))
    assert set(one) < set(both)
    assert len(set(both)) == len(both) == 2


def test_two_findings_never_have_one_fingerprint(cli: Cli, tmp_path: Path) -> None:
    text = json.dumps(tiny_config())[:-1] + ', "lora_alpha": NaN}'
    found = prints(cli, write_adapter(tmp_path / "a", None, text))
    assert len(set(found)) == len(found) == 2
    assert {item.partition(":")[0] for item in found} == {found[0].partition(":")[0]}


def test_github_makes_its_own_of_a_line_of_text(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", {**tiny_tensors(), "foo": ones(2)}, tiny_config(brand_new=1))
    by_rule = {
        item["ruleId"]: item["partialFingerprints"] for item in sarif(check(cli, "sarif", folder).out)["results"]
    }
    assert "primaryLocationLineHash" not in by_rule["LP203"]
    assert by_rule["LP316"]["primaryLocationLineHash"] == by_rule["LP316"]["lora-packer/v1"]


# --- nothing is injected ---------------------------------------------------------------------------------------------

HOSTILE = (
    "::error::x",
    "  ::add-mask::x",
    "a\n::stop-commands::x",
    "a\r::set-env name=X::y",
    "##[add-mask]x",
    "##vso[task.setvariable variable=x]y",
    "a::b,c:d%0A::error::z",
    "]]></failure><!-- &amp; \"'",
    "\x00\x01\x0b\x1b[31m\ufffe\udc80\u202e",
    "[click](http://evil.example) {0} {{1}} `x` | <img src=x> @someone #1 *y* _z_",
    "</code>|\n\n# heading\n",
)


def hostile_adapter(folder: Path, text: str) -> Path:
    clean = text.encode("utf-8", "backslashreplace").decode()
    tensors = {**tiny_tensors(), clean: ones(2), f"{PREFIX}{clean}.lora_A.weight": ones(2)}
    config = tiny_config(
        **{text: 1}, base_model_name_or_path=text, task_type=text, target_modules=["q_proj", "v_proj", text]
    )
    return write_adapter(folder, tensors, config)


def is_command(line: str) -> bool:
    """Whether GitHub's runner, Azure Pipelines or TeamCity may take a line for a command."""
    return line.lstrip().startswith("::") or re.search(r"##\w*\[", line) is not None


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["text", "json", *FORMATS])
def test_text_from_inside_a_file_injects_nothing(
    cli: Cli, tmp_path: Path, form: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    folder = hostile_adapter(tmp_path / "a", text)
    named = tmp_path / text.replace("/", "_").replace("\0", "")
    hostile_adapter(named, text)
    for adapters in ([folder], [folder, named]):
        result = check(cli, form, *adapters, "--verbose", "--base-model", "org/other")
        assert result.code == 1, result.text
        lines = re.split(r"[\r\n]+", result.out) + re.split(r"[\r\n]+", result.err)
        if form == "github":
            told = commands(result.out)
            assert {name for name, *_ in told} <= {"error", "warning", "notice"}
            assert all(properties.keys() <= {"file", "line", "title"} for _, properties, _ in told)
            assert not any(re.search(r"##\w*\[", line) for line in lines)
            lines = [line for _, _, text in told for line in text.splitlines()]
        assert [line for line in lines if is_command(line)] == []
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\ufffe\udc80]", result.out)
    if form == "sarif":
        for item in sarif(result.out)["results"]:
            assert "](" not in item["message"]["text"]
            assert not re.search(r"\{\d+\}", item["message"]["text"])
    if form == "junit":
        assert {item.tag for item in ElementTree.fromstring(result.out).iter()} <= {
            *("testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped"),
            "system-out",
        }


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_path_that_is_not_there(cli: Cli, text: str) -> None:
    for form in ("text", "json", *FORMATS):
        result = check(cli, form, text.replace("\0", ""))
        assert result.code == 2
        lines = result.err.splitlines() + ([] if form == "github" else result.out.splitlines())
        assert [line for line in lines if is_command(line)] == []
        if form == "github":
            assert [name for name, *_ in commands(result.out)] == ["error"]


def test_a_line_that_a_narrow_terminal_folds_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from lora_packer.cli.streams import folded

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "20")
    told = folded("error: the tensor is ::error::gone and ##[add-mask]x", Terminal())
    assert [line for line in told.splitlines() if is_command(line)] == []
    assert "\\x3a:error::gone" in told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a::b std::x", "a::b std::x"),
        ("::error::x", "\\x3a:error::x"),
        (" \t::x\n::y\r::z", " \t\\x3a:x\n\\x3a:y\r\\x3a:z"),
        ("a ##[x] ##vso[y] ##teamcity[z] ## [no] #[no]", "a #\\x23[x] #\\x23vso[y] #\\x23teamcity[z] ## [no] #[no]"),
        ("###[x]", "##\\x23[x]"),
    ],
)
def test_inert(text: str, shown: str) -> None:
    assert inert(text) == shown
    assert inert(shown) == shown


def test_what_is_inert_still_means_the_same() -> None:
    text = '##[error] ###vso[x] "\\ <&>'
    assert json.loads(inert_json(json.dumps({"a": text}))) == {"a": text}
    assert "##[" not in inert_json(json.dumps(text))
    element = ElementTree.Element("a", b=text)
    element.text = text
    again = ElementTree.fromstring(inert_xml(ElementTree.tostring(element, encoding="us-ascii").decode()))
    assert (again.text, again.get("b")) == (text, text)


# --- the job's summary -----------------------------------------------------------------------------------------------


def test_the_summary_is_added_to_what_is_there(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    check(cli, "github", HALF, "nowhere")
    text = summary.read_text()
    assert text.startswith("before\n## lora-packer: 2 adapters\n")
    assert "| error | LP306 half-pair | " in text
    assert "unreadable" in text
    check(cli, "sarif", HALF)
    assert summary.read_text() == text


def test_nothing_in_the_summary_is_markdown(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    for at, text in enumerate(HOSTILE):
        check(cli, "github", hostile_adapter(tmp_path / f"a{at}", text))
    text = summary.read_text()
    assert not re.search(r"http:|<img|</failure|@someone|\]\(|[`*\[\]_@\x1b\x00]", text)
    assert {line.count("|") for line in text.splitlines() if line.startswith("| error")} == {6}


def test_a_summary_that_cannot_be_written_changes_no_verdict(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = check(cli, "github", TINY)
    assert result.code == 0
    assert "summary cannot be written" in result.err
    assert [name for name, *_ in commands(result.out)] == ["notice"]


# --- another reader --------------------------------------------------------------------------------------------------


def test_a_ci_parser_reads_the_test_suites(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from junitparser import Error, Failure, JUnitXml, Skipped

    monkeypatch.chdir(ROOT)
    hostile = hostile_adapter(tmp_path / HOSTILE[7].replace("/", "_"), HOSTILE[7])
    check(cli, "junit", TINY, HALF, "nowhere", hostile, "--no-weights", "--output", tmp_path / "report.xml")
    read = JUnitXml.fromfile(str(tmp_path / "report.xml"))
    assert [suite.name for suite in read][:3] == [str(TINY), str(HALF), "nowhere"]
    kinds = [{type(item) for case in suite for item in case.result} for suite in read]
    assert kinds[:3] == [{Skipped}, {Skipped, Failure}, {Error}]
    assert (read.tests, read.errors) == (sum(suite.tests for suite in read), 1)
    assert read.failures == sum(suite.failures for suite in read) > 1
