"""Patterns from a config: the same answers as Python's re, and never a hang."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_packer.adapter import pattern_automaton
from lora_packer.adapter.patterns import PatternError, full_matcher

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.self_attn.v_proj",
    "model.layers.11.mlp.down_proj",
    "model.visual.blocks.3.attn.qkv",
    "model.language_model.layers.2.mlp.experts.7.gate_proj",
    "model.embed_tokens",
    "lm_head",
    "LM_head",
    "model.layers.9.mlp.z_proj",
    "a\nz{}\r",
    "lm_head\n",
    "l\u0131m_head",
    "\u017fm\u212a",
    "",
]


@pytest.mark.parametrize(
    "pattern",
    [
        "q_proj",
        "model.layers.0.self_attn.q_proj",
        r".*\.1\..*(q_proj|v_proj)",
        r"^(?!.*visual).*(?:q_proj|down_proj)",
        r"(?:.*?(?:vision|language).*?(?:attn|mlp).*?(?:gate_proj|qkv).*?)|(?:\bmodel\.layers\.[\d]{1,}\.self_attn\.q_proj)",
        r"model\.layers\.(0|[2-9])\..*",
        r"^(model.language_model(?=\.).*\.(q_proj|gate_proj))$",
        r"(?:m(?=odel\.v))odel.*",
        r"(?:(?=model)m|l)\w+.*",
        r"(a|)+lm_head",
        r"(?i)LM_HEAD",
        r"(?i)[K-M]m_head",
        r"[^.]*",
        r"[\w.]+?\bv_proj",
        r".*[a-c\]_-]+.*",
        r".{0,7}",
        r"(lm_|x){1,2}head",
        r"(?P<top>model)\..*\B_proj",
        r"\Alm_head\Z",
        r".*\d{2,}.*",
        r".*[^\d]proj",
        r"(.*\.)?(^lm_head)$",
        r"x{0}lm_head",
        r"lm{,3}_head",
        r"",
        r"model\.layers\.[0-9]\..*",
        r"model\.layers\.9\.mlp\.[a-z]_.*",
        r"[A-M]+_[a-h]+",
        r".*[^\].]q_proj",
        r"x{,}lm_head",
        r"[a-z]{}",
        r"a.*[{}]{2}\r",
        r"(?s).*",
        r".*",
        r"a[\n-\r]z.*",
        r"a[\x0a]z\{\}[\x00-\x1f]",
        r"a\012z\u007b\}\s",
        r"lm_head$",
        r"lm_head$\n",
        r"lm_head$.",
        r"(?s)lm_head$.",
        r"lm_head\Z\s",
        r"(lm_head$)?\s*",
        r"(?i)L[a-z]+m_[G-I]ead",
        r"(?i)[a-z]+",
        r"(?i)S.K",
        r"(?i)l\u0049m_head",
        r"(?is)LM.HEAD.?",
        r"[\w.]+",
        r"[]a-z._0-9]*",
        r"[^]]*",
    ],
)
def test_agrees_with_re(pattern: str) -> None:
    matches = full_matcher(pattern)
    for name in NAMES:
        assert matches(name) == (re.fullmatch(pattern, name) is not None), name


@settings(max_examples=500, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "(?=a)", "(?!ab)", r"\b", "^", "$"]),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
            inner.map(lambda item: f"({item})" + ("" if "?" in item else "*")),
            inner.map(lambda item: f"({item})" + ("" if "?" in item else "{1,2}")),
        ),
        max_leaves=8,
    ),
    st.text("ab.", max_size=8),
)
def test_agrees_with_re_on_any_pattern(pattern: str, text: str) -> None:
    assert full_matcher(pattern)(text) == (re.fullmatch(pattern, text) is not None)


@pytest.mark.parametrize(
    "pattern",
    [
        "(.{0,200}){0,200}[qv]_proj",
        "(.{0,200}){0,200}",
        "(.{0,500}){0,500}",
        ".?" * 400,
        "a?" * 3000,
        "[a-z]*" * 500,
        "(a{500}b{500}c{500}){2}|.*[qv]_proj",
        "((((.{1,10}){1,10}){1,10}){1,10}){1,10}x",
        "(" * 400 + "a" + ")" * 400,
    ],
)
def test_a_pattern_that_costs_too_much_is_given_up(pattern: str) -> None:
    def match_all() -> None:
        for layer in range(200):
            full_matcher(pattern)(f"model.layers.{layer}.self_attn.q_proj")

    with pytest.raises(PatternError) as caught:
        match_all()
    assert caught.value.kind == "unsupported"


TRAINERS = {
    "unsloth": r"(?:.*?(?:vision|image|visual|patch|embed|encoder|language|text).*?(?:self_attn|attention|attn|mlp|"
    r"feed_forward|ffn|dense).*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)|(?:\bmodel\.layers\."
    r"[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:q_proj|k_proj|v_proj|o_proj)))",
    "ms-swift": r"^(language_model|model)(?=\.).*\.(o_proj|q_proj|v_proj|up_proj|down_proj|gate_proj|k_proj)$",
    "not the head": r"^(model(?!.*(lm_head|output|emb|wte|shared)).*)$",
    "126 layers": "|".join(rf"model\.layers\.{layer}\.self_attn\.[qv]_proj" for layer in range(126)),
}


@pytest.mark.parametrize("pattern", TRAINERS.values(), ids=TRAINERS)
def test_what_trainers_write_stays_far_below_the_bound(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_packer.adapter.pattern_automaton.MAX_WORK", 50_000)
    matches = full_matcher(pattern + "(?:)")  # not the matcher that another test has kept
    for layer in range(126):
        for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj", "input_layernorm", "mlp", "self_attn"):
            name = f"model.layers.{layer}.{part}"
            assert matches(name) == (re.fullmatch(pattern, name) is not None), name


@pytest.mark.parametrize(
    "pattern",
    ["([a-z_.0-9]+)+!", "(a+)+$", "(.*)*x", "(a|a)*b", "(.*.*.*.*.*.*.*)x", "(a?){40}a{40}!", "(a|b)*a(a|b){60}"],
)
def test_hostile_patterns_end(pattern: str) -> None:
    text = "model.layers.0.self_attn.q_projaaaaaaaaaaaaaaaaaaaaaa" * 4
    try:
        answer = full_matcher(pattern)(text)
    except PatternError as error:
        answer = error.kind
    assert answer in (False, "unsupported")


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("(", "invalid"),
        ("*a", "invalid"),
        ("[b-a]", "invalid"),
        (r"(a)\1", "unsupported"),
        (r"(?<=a)b", "unsupported"),
        (r"(?>a)b", "unsupported"),
        (r"a++", "unsupported"),
        (r"(?x)a", "unsupported"),
        (r"(?:(?=a)a)*", "unsupported"),
        ("a{1000}", "unsupported"),
        ("a" * 20_001, "unsupported"),
    ],
)
def test_says_what_it_does_not_evaluate(pattern: str, kind: str) -> None:
    with pytest.raises(PatternError) as caught:
        full_matcher(pattern)
    assert caught.value.kind == kind


def test_a_pattern_that_is_kept_never_runs_out_of_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hundred adapters ask of one pattern is not one adapter's."""
    monkeypatch.setattr(pattern_automaton, "MAX_WORK", 20_000)
    pattern = r"(.*\.)?kept\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
    for number in range(100):
        matches = full_matcher(pattern)
        for character in range(100):
            assert not matches(chr(0x4E00 + 100 * number + character))
        assert matches(f"model{number}.kept.self_attn.q_proj")
