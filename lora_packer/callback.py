"""Check each checkpoint of an adapter while training runs: a save that went wrong is told at once, not after days.

``CheckpointCheck`` is a callback for transformers' Trainer and those built on it (TRL's, for one), and
``check_checkpoint`` is for any other loop. transformers is imported when ``CheckpointCheck`` is first asked for.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_packer.arguments import require_one_of, require_path
from lora_packer.errors import InconclusiveError, LoraPackerError
from lora_packer.files import is_folder
from lora_packer.redact import escape, fit

if TYPE_CHECKING:
    from lora_packer.inspector import Report

__all__ = ["CheckpointCheck", "check_checkpoint"]  # noqa: F822 - made when it is asked for

_LOG = logging.getLogger("lora_packer")
# How transformers names the folder of a checkpoint (trainer_utils.py, PREFIX_CHECKPOINT_DIR and _re_checkpoint).
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
OnError = Literal["warn", "stop"]


def check_checkpoint(folder: str | Path, **options: Any) -> Report:
    """Check a checkpoint's adapter, and log what is wrong with it in a sentence (logger ``lora_packer``).

    Args:
        folder: a checkpoint, or a trainer's output folder: then the newest ``checkpoint-N`` in it.
        options: those of ``lora_packer.check``, such as ``base_config`` (a path, a Hub id or
            ``model.config.to_dict()``) and ``target``.

    Returns:
        The report; ``report.ok`` says whether the checkpoint is fit for its base model and target.

    Raises:
        InputError: there is nothing to read, or an argument makes no sense.
    """
    require_path(folder, "folder")
    place = _newest(Path(folder))
    from lora_packer.inspector import check

    report = check(place, **options)
    if not report.ok:
        _LOG.warning("%s", _sentence(place, report))
    return report


def _newest(folder: Path) -> Path:
    """Return the newest checkpoint in an output folder, and a folder that has none itself."""
    if not is_folder(folder):
        return folder
    steps = {int(found[1]): item for item in folder.iterdir() if (found := _CHECKPOINT.fullmatch(item.name))}
    return steps[max(steps)] if steps else folder


def _sentence(place: Path, report: Report) -> str:
    """What is wrong with a checkpoint, in a sentence."""
    name = f"'{escape(str(place))}'"
    if report.status == "inconclusive":
        return f"{name} could not be checked whole: {fit(report.unchecked[0].reason)}"
    errors = [item for item in report.decisive if item.severity == "error"] or list(report.decisive)
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    hint = f" {first.hint}" if first.hint else ""
    return f"{name} failed its check: {first.code} {first.name}: {first.message}{more}.{hint}"


def _is_fit(place: Path, options: dict[str, Any]) -> bool:
    """Check a checkpoint, log what is wrong, and return whether training may go on; nothing is ever raised."""
    try:
        return check_checkpoint(place, **options).status != "failed"
    except InconclusiveError as error:
        _LOG.warning("'%s' could not be checked: %s", escape(str(place)), fit(str(error)))
        return True
    except LoraPackerError as error:
        _LOG.warning("'%s' failed its check: %s", escape(str(place)), fit(str(error)))
        return False
    except Exception:  # noqa: BLE001 - a bug here is no reason to lose somebody's training
        _LOG.exception("'%s' was not checked: this is a bug in lora-packer", escape(str(place)))
        return True


def _config_of(model: Any) -> dict[str, Any] | None:
    """Return the config of the model that is trained, or None where it has none."""
    config: Any = getattr(model, "config", None)
    found = config if isinstance(config, dict) else config.to_dict() if hasattr(config, "to_dict") else None
    return found if found and found.get("model_type") else None


@cache
def _callback_class() -> type:
    """Make the class, whose base is in transformers."""
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise ImportError(f"CheckpointCheck needs transformers, which cannot be imported: {error}") from None

    class CheckpointCheck(TrainerCallback):  # type: ignore[misc, unused-ignore]
        """A Trainer callback that checks each checkpoint as it is saved.

        Args:
            on_error: ``warn`` logs what is wrong; ``stop`` also ends the training, after the checkpoint that failed.
                A checkpoint that could not be checked whole is logged and stops nothing.
            options: those of ``lora_packer.check``. Without ``base_config`` and ``base_model`` the config of the model
                that is trained is used: nothing is fetched.

        Raises:
            InputError: ``on_error`` is something else.
        """

        def __init__(self, *, on_error: OnError = "warn", **options: Any) -> None:
            require_one_of(on_error, "on_error", ("warn", "stop"))
            self._on_error = on_error
            self._options = options

        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
            """Check what was saved. Every process decides the same: one that went on alone would wait for ever."""
            is_fit = True
            if state.is_world_process_zero:
                options = dict(self._options)
                if options.get("base_config") is None and options.get("base_model") is None:
                    options["base_config"] = _config_of(more.get("model"))
                is_fit = _is_fit(Path(args.output_dir, f"checkpoint-{state.global_step}"), options)
            if self._on_error == "stop" and not _told_to_all(is_fit, args):
                control.should_training_stop = True
                if state.is_world_process_zero:
                    _LOG.error("training stops at step %s, because its checkpoint failed the check", state.global_step)
            return control

    CheckpointCheck.__module__ = __name__
    CheckpointCheck.__qualname__ = "CheckpointCheck"
    return CheckpointCheck


def _told_to_all(is_fit: bool, args: Any) -> bool:
    """Return what the first of the processes found."""
    if getattr(args, "world_size", 1) <= 1:
        return is_fit
    from accelerate.utils import broadcast_object_list  # transformers' Trainer needs it itself

    return bool(broadcast_object_list([is_fit])[0])


def __getattr__(name: str) -> Any:
    if name == "CheckpointCheck":
        return _callback_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
