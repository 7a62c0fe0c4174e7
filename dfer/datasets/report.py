"""The report on reading a data set: findings for people and for programs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dfer.config.problems import InputError
from dfer.labels import EMOTIONS

Severity = Literal["error", "warning", "note"]
Counts = dict[str, int | dict[str, int]]
Rules = Mapping[str, tuple[Severity, str]]
"""Finding code -> its severity, and a message: what it means and what to do."""

EXAMPLES = 5
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Problems(defaultdict[str, list[str]]):
    """Finding code -> all places where it applies, collected while reading."""

    def __init__(self) -> None:
        super().__init__(list)


@dataclass(frozen=True)
class Finding:
    """One kind of problem or remark on a data set, how often it applies, and up to five of the places."""

    code: str
    severity: Severity
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()


def findings(problems: Mapping[str, Sequence[str]], rules: Rules) -> list[Finding]:
    """The collected problems as findings, in the order of `rules`. Raises KeyError for a code without a rule."""
    unknown = set(problems) - set(rules)
    if unknown:
        raise KeyError(f"no rule for the finding codes {sorted(unknown)}")
    return [
        Finding(code, severity, message, len(problems[code]), tuple(map(_printable, problems[code][:EXAMPLES])))
        for code, (severity, message) in rules.items()
        if problems.get(code)
    ]


@dataclass(frozen=True)
class IngestReport:
    """The report on one data set folder.

    Attributes:
        counts: numbers of clips, some of them per fold or per label.
        lists: path -> SHA-256 of every label and fold list, since different lists of the same set are in circulation.
        classes: in the order of the labels and votes of its clip table.
        known: those of them that the data set has, where it lacks some; else empty.
        classes_are_columns: every column of a table that means nothing else was taken for a class; for messages.
    """

    dataset: str
    root: str
    findings: tuple[Finding, ...]
    counts: Counts = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = EMOTIONS
    known: tuple[str, ...] = ()
    classes_are_columns: bool = False

    @property
    def fatal(self) -> bool:
        """Whether any finding is an error, so that the clip table must not be used."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers; `classes` only where they are not the usual ones."""
        plain = asdict(self) | {"fatal": self.fatal, "findings": [asdict(finding) for finding in self.findings]}
        del plain["classes_are_columns"]
        # reports of earlier versions, which are part of cache keys, have neither
        if self.classes == EMOTIONS:
            del plain["classes"]
        if not self.known:
            del plain["known"]
        return plain

    def to_json(self) -> str:
        """The report as JSON; equal reports give equal text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def as_text(self) -> str:
        """The report as plain text: counts, then errors, warnings and notes."""
        lines = [f"{self.dataset}: {self.root}"]
        for name, value in self.counts.items():
            shown = value if isinstance(value, int) else ", ".join(f"{key}: {count}" for key, count in value.items())
            lines.append(f"  {name.replace('_', ' ')}: {shown}")
        if not self.findings:
            lines.append("  nothing to report")
        return "\n".join([*lines, *lines_of(self.findings)])


class IngestError(ValueError):
    """A data set that cannot be used as it is; `report` says why."""

    def __init__(self, report: IngestReport) -> None:
        super().__init__(f"the data set cannot be used as it is\n{report.as_text()}")
        self.report = report


class SourceError(InputError, ValueError):
    """A layout has no clips or labels of the kind that a data set's `source` names."""


def lines_of(found: Iterable[Finding]) -> list[str]:
    """Findings as lines of plain text: errors, then warnings, then notes."""
    ordered = sorted(found, key=lambda finding: _SEVERITIES.index(finding.severity))
    return [line for finding in ordered for line in _finding_lines(finding)]


def _printable(example: str) -> str:
    """Escape control characters and bytes that are no text, which file names may have."""
    return example if example.isprintable() else ascii(example)


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"{finding.severity.upper()} {finding.code} ({finding.count}): {finding.message}"]
    if finding.examples:
        shown = finding.examples[:EXAMPLES]
        more = finding.count - len(shown)
        lines.append(f"  {'; '.join(shown)}" + (f"; and {more} more" if more > 0 else ""))
    return lines
