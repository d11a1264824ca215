"""What a base model is called, and which names mean the same one."""

from __future__ import annotations

import pytest

from lora_packer.base_model.catalogue import hosted_id
from lora_packer.base_model.names import cached_repo, hosted_as, same_base

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
        "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference",
        "togethercomputer/Meta-Llama-3.1-8B-Instruct-Reference",
        "META-LLAMA/llama-3.1-8b-instruct/",
        "unsloth/Llama-3.1-8B-Instruct",
        "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit",
        "unsloth/llama-3.1-8b-instruct-unsloth-bnb-4bit",
        "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4",
        "neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w4a16",
        "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit",
        "/root/.cache/huggingface/hub/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/0e9e39f249a16976918f6564b883",
        r"C:\Users\me\.cache\huggingface\hub\models--unsloth--llama-3.1-8b-instruct-bnb-4bit\snapshots\0e9e39f249a1",
        r"D:\models\Llama-3.1-8B-Instruct" + "\\",
        "./Llama-3.1-8B-Instruct",
        "/models/meta-llama_Llama-3.1-8B-Instruct",
        "/models/meta-llama--Llama-3.1-8B-Instruct",
        "/root/.cache/modelscope/hub/models/LLM-Research/Meta-Llama-3___1-8B-Instruct",
        "meta-llama/Llama-3.1-8B-Instruct@main",
    ],
)
def test_names_of_one_base(name: str) -> None:
    assert same_base(name, LLAMA)
    assert same_base(LLAMA, name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("meta-llama/Llama-3.1-8B", LLAMA),
        ("meta-llama/Llama-3.1-70B-Instruct", LLAMA),
        ("meta-llama/Llama-3.2-8B-Instruct", LLAMA),
        ("deepseek-ai/DeepSeek-V2-Lite", "deepseek-ai/DeepSeek-V2"),
        ("meta-llama/Llama-3.1-8B-unsloth-bnb-4bit", LLAMA),
        ("/models/models--meta-llama--Llama-3.1-8B/snapshots/0e9e", LLAMA),
        ("", ""),
        ("/", "-Turbo/"),
    ],
)
def test_names_of_two_bases(one: str, other: str) -> None:
    assert not same_base(one, other)


@pytest.mark.parametrize(
    ("hosted", "known"),
    [
        (LLAMA, LLAMA),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", LLAMA),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Reference", LLAMA),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", LLAMA),
        ("togethercomputer/Meta-Llama-3.1-8B-Instruct-Reference", LLAMA),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B"),
        ("qwen/qwen2.5-7b-instruct-turbo", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen3-235B-A22B-fp8-tput", "Qwen/Qwen3-235B-A22B"),
        ("Qwen/Qwen3-235B-A22B-FP8", "Qwen/Qwen3-235B-A22B-FP8"),
        ("unsloth/Llama-3.1-8B-Instruct-bnb-4bit", None),  # a copy by somebody else may differ
        ("somebody/Llama-3.1-8B-Instruct", None),
        ("deepseek-ai/DeepSeek-V3-Lite", None),
        ("-Turbo", None),
        ("", None),
    ],
)
def test_what_the_catalogue_knows_of_a_hosted_name(hosted: str, known: str | None) -> None:
    assert hosted_id(hosted) == known


def test_the_services_own_names_stand_for_the_hubs() -> None:
    assert hosted_as("Qwen/Qwen2.5-72B-Instruct-Turbo") == "Qwen/Qwen2.5-72B-Instruct"
    assert hosted_as("meta-llama/Meta-Llama-3-8B-Instruct-Lite") == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert hosted_as("meta-llama/Llama-3-8b-chat-hf") == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert hosted_as("deepseek-ai/DeepSeek-V2-Lite") is None
    assert hosted_as("-Turbo") is None


def test_a_place_in_the_hubs_cache_names_its_repository() -> None:
    assert cached_repo("/x/models--org--name/snapshots/abc/") == "org/name"
    assert cached_repo("models--gpt2") == "gpt2"
    assert cached_repo(r"C:\hub\models--org--name") == "org/name"
    assert cached_repo("/models/org--name") is None
