"""Switches that make the sandbox's service fail in the ways the real one is documented to."""

from __future__ import annotations

from lora_packer.errors import InputError
from lora_packer.frozen import frozen


@frozen
class Faults:
    """What goes wrong; by default nothing but what the service itself refuses by now.

    Attributes:
        refuse_submit: answer every submission with this HTTP status and an error body.
        lose_answer: create the job, then close the connection without an answer.
        fail_job: end every job as ``Failed`` with this message.
        stuck: leave every job in ``Processing``, the state the service's page names for jobs that stand still.
        stuck_unreachable: the same, only for jobs whose source cannot be downloaded.
        no_project: the key is one of an organization, and has no project: there is version 1 for it only.
        plain_errors: refuse on version 2 as on version 1, with ``error.message``, instead of with ``details``. Which of
            its calls answer how is not documented.
        validation_breaks: end every validation of a revision as ``ERROR``, the service's own fault.
        shallow_search: find supported models by their own names only, not by those of their deployments. Which of the
            two the service does is not documented; the vendor's command line needs the second.
        v1_endpoints_closed: refuse to create or restart an endpoint through version 1, as the service is documented to
            do (docs.together.ai/docs/dedicated-endpoints/migrate-from-v1); False is how it was before.
        no_hardware: tell that nothing that could serve a model is to be had.
        endpoint_fails: end every endpoint that is created as ``ERROR`` (version 2: its deployment as ``FAILED``).
        never_stopped: leave every deployment that is scaled to zero in ``STOPPING``: it can neither be deleted nor
            started again.
        refuse_split: refuse every change of an endpoint's traffic.
        keeps_empty_split: take an empty traffic split for no change, as one of the vendor's guides has it.
        deaf_to_dry_runs: create a deployment where it should only be judged.
        rejects_adapters: find every adapter that is attached not to be valid.
        ignores_adapters: answer with the base model's text whatever adapter is deployed.
        no_serverless: answer for no base model that is not deployed.
        slow: seconds that each state lasts longer.
    """

    refuse_submit: int | None = None
    lose_answer: bool = False
    fail_job: str | None = None
    stuck: bool = False
    stuck_unreachable: bool = False
    no_project: bool = False
    plain_errors: bool = False
    validation_breaks: bool = False
    shallow_search: bool = False
    v1_endpoints_closed: bool = True
    no_hardware: bool = False
    endpoint_fails: bool = False
    never_stopped: bool = False
    refuse_split: bool = False
    keeps_empty_split: bool = False
    deaf_to_dry_runs: bool = False
    rejects_adapters: bool = False
    ignores_adapters: bool = False
    no_serverless: bool = False
    slow: float = 0.0

    @classmethod
    def named(cls, kind: str) -> Faults:
        """Return the faults that ``kind`` stands for, one of ``FAULT_KINDS``. Raises InputError."""
        try:
            return _NAMED[kind]
        except KeyError:
            raise InputError(f"{kind!r} is not a way to fail.", hint=f"Choose one of {', '.join(_NAMED)}.") from None


_NAMED = {
    "job": Faults(fail_job="base model incompatibility: the adapter does not fit the base model"),
    "stuck": Faults(stuck=True),
    "unreachable": Faults(stuck_unreachable=True),
    "validation": Faults(validation_breaks=True),
    "no-project": Faults(no_project=True),
    "no-hardware": Faults(no_hardware=True),
    "endpoint": Faults(endpoint_fails=True),
    "stopping": Faults(never_stopped=True),
    "split": Faults(refuse_split=True),
    "adapter-invalid": Faults(rejects_adapters=True),
    "adapter-ignored": Faults(ignores_adapters=True),
    "no-serverless": Faults(no_serverless=True),
    "slow": Faults(slow=10.0),
    "lost-answer": Faults(lose_answer=True),
} | {f"refuse-{status}": Faults(refuse_submit=status) for status in (400, 401, 402, 403, 409, 422, 429, 500, 503)}

FAULT_KINDS = tuple(_NAMED)
"""The names that ``lora-packer sandbox --fail`` takes."""
