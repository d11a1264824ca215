"""Answers of version 1 of the API, as its documentation has them."""

from __future__ import annotations

from typing import Any

import httpx2
from together_support import mock_client

from lora_packer.together import Client

# The examples of docs.together.ai/docs/dedicated-endpoints/v1/adapter and of openapi.yaml.
CREATED_ON_PAGE = {
    "data": {
        "job_id": "job-b641db51-38e8-40f2-90a0-5353aeda6f21",
        "model_name": "devuser/test-lora-model-creation-8b",
        "model_source": "remote_archive",
    },
    "message": "job created",
}
CREATED_IN_SPEC = {
    "data": {
        "job_id": "job-a15dad11-8d8e-4007-97c5-a211304de284",
        "model_name": "necolinehubner/Qwen2.5-72B-Instruct",
        "model_id": "model-c0e32dfc-637e-47b2-bf4e-e9b2e58c9da7",
        "model_source": "huggingface",
    },
    "message": "Processing model weights. Job created.",
}
JOB_ON_PAGE = {
    "type": "adapter_upload",
    "job_id": "job-b641db51-38e8-40f2-90a0-5353aeda6f21",
    "status": "Complete",
    "status_updates": [],
}
JOB_IN_SPEC = {
    "type": "model_upload",
    "job_id": "job-a15dad11-8d8e-4007-97c5-a211304de284",
    "status": "Complete",
    "status_updates": [{"status": "Complete", "message": "Job is Complete", "timestamp": "2025-03-11T22:36:12Z"}],
    "args": {
        "description": "Finetuned Qwen2.5-72B-Instruct by Unsloth",
        "modelName": "necolinehubner/Qwen2.5-72B-Instruct",
        "modelSource": "unsloth/Qwen2.5-72B-Instruct",
    },
    "created_at": "2025-03-11T22:05:43Z",
    "updated_at": "2025-03-11T22:36:12Z",
}
HARDWARE: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "object": "hardware",
            "id": "2x_nvidia_a100_80gb_sxm",
            "pricing": {"cents_per_minute": 5.42},
            "specs": {"gpu_type": "a100-80gb", "gpu_link": "sxm", "gpu_memory": 80, "gpu_count": 2},
            "availability": {"status": "available"},
            "updated_at": "2025-02-04T10:43:55.405Z",
        }
    ],
}
ENDPOINT: dict[str, Any] = {
    "object": "endpoint",
    "id": "endpoint-d23901de-ef8f-44bf-b3e7-de9c1ca8f2d7",
    "name": "devuser/deepseek-ai/DeepSeek-R1-a32b82a1",
    "display_name": "My DeepSeek R1 endpoint",
    "model": "tiny/llama",
    "hardware": "2x_nvidia_a100_80gb_sxm",
    "type": "dedicated",
    "owner": "devuser",
    "state": "STARTED",
    "autoscaling": {"min_replicas": 1, "max_replicas": 1},
    "created_at": "2025-02-04T10:43:55.405Z",
}


def answering(body: Any) -> Client:
    return mock_client(lambda _: httpx2.Response(200, json=body))
