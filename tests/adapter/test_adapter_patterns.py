"""Patterns from a config: the same answers as Python's re, and never a hang."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
