"""Text for a person folded to the terminal's width: at words, never inside a path, an address or a command."""

from __future__ import annotations

import re

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
# What stays together: a command in backquotes, else what stands between spaces.
_PIECES = re.compile(r"\s+|(?:`[^`\n]*`|[^\s`]|`)+")
# Where a column begins: a value beside its label, as `next      Save the adapter again.`, or a cell of a table.
_COLUMN = re.compile(r"(?<=\S)\s{2,}(?=\S)")
# A line to be copied into a shell: a line break in it would cut it in two.
_COMMAND = re.compile(r"\s*(?:Go on with: +|\S+ {2,})?lora-packer [a-z]+ ")
_LEAST = 20  # columns that a value has to have to stand beside its label; half of a narrow terminal
_HANG = 4
_COLUMNS = 3  # at the most; further in it is what somebody wrote


def fold(text: str, width: int) -> str:
    """Return the text with no line longer than the width, where its words let it; each goes on under its value."""
    return "\n".join(_folded(line, width) for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    plain = _STYLE.sub("", line)
    if len(plain) <= width or _COMMAND.match(plain):
        return line
    hang, last = " " * _hang(plain, width), max([found.end() for found in _COLUMN.finditer(plain)], default=0)
    lines, used = [""], 0
    gap, at = "", 0
    for piece in _PIECES.findall(line):
        shown = len(_STYLE.sub("", piece))
        at += shown
        if piece.isspace():
            gap = piece
            continue
        is_column = len(gap) > 1 and at - shown > width - min(_LEAST, width // 2)
        is_full = used + len(gap) + shown > width and (is_column or len(hang) + shown <= width)
        # A sentence at the end of a table's row gets lines of its own rather than a sliver.
        is_cut = is_column and at - shown == last and used + len(gap) + len(plain) - last > width
        if lines[-1].strip() and (is_full or is_cut):
            lines.append(hang)
            used, gap = len(hang), ""
        lines[-1] += gap + piece
        used += len(gap) + shown
        gap = ""
    return "\n".join(lines)


def _hang(plain: str, width: int) -> int:
    """Where the rest of a line begins: under its value, else somewhat further in than the line itself."""
    indent = len(plain) - len(plain.lstrip())
    columns = [found.end() for found in _COLUMN.finditer(plain)][:_COLUMNS]
    fit = [column for column in columns if column <= width - min(_LEAST, width // 2)]
    return fit[-1] if fit else indent or min(_HANG, width // 4)
