"""Reads CREMA-D's table of votes, `processedResults/tabulatedVotes.csv`. Errors in it are reported, never corrected."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from dfer.datasets.report import Problems, Rules
from dfer.datasets.scan import is_inside
from dfer.labels import EMOTIONS, emotion_index
from dfer.system.file_types import LFS_POINTER

VOTES = "processedResults/tabulatedVotes.csv"
CLIP_NAME = r"(1[0-9]{3})_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX)"
"""The pattern of a clip's name: actor, sentence, acted emotion and its level. Other names are never used."""

LETTERS = {
    letter: emotion_index(name)
    for letter, name in {"A": "anger", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}.items()
}
"""Column of votes -> index of its emotion in `EMOTIONS`; voters could not choose surprise."""

# The first column, without a name, is query type * 100000 + clip number; 1 is the voice alone, 2 the face, 3 both.
_QUERY = 100_000
_QUERY_TYPES = (1, 2, 3)
_COLUMNS = (*LETTERS, "fileName", "numResponses", "emoVote")

VOTES_RULES: Rules = {
    "votes_missing": ("error", f"no {VOTES}, so there are no labels; copy it from the set's repository into the root"),
    "votes_lfs_pointer": (
        "error",
        "the table of votes is only a pointer of Git LFS, not the table itself: run git lfs pull in the clone",
    ),
    "votes_unreadable": ("error", "the table of votes cannot be read; take the file from the set's repository"),
    "votes_columns": ("error", "the table of votes lacks columns; take the file from the set's repository"),
    "votes_of_this_kind": ("error", "the table holds no row of the chosen kind of votes; choose another source"),
    "bad_row_name": (
        "error",
        "rows whose first column is not query type * 100000 + clip number, so that it is not known whether the voters "
        "saw the face; pandas writes such a table only with its index",
    ),
    "bad_clip_name": ("error", "clip names that are not Actor_Sentence_Emotion_Level; they are never used as a path"),
    "bad_votes": ("error", "votes that are no whole number from 0 up"),
    "votes_all_zero": ("error", "clips without a single vote"),
    "listed_twice_differently": ("error", "clips with two rows of different votes; remove one of the rows"),
    "vote_contradicts": (
        "error",
        "clips whose emoVote is not what most of the votes are for: the columns of votes are not what they seem",
    ),
    "listed_twice": ("warning", "clips with two rows of the same votes, used once"),
    "responses_total": (
        "warning",
        "clips whose numResponses is not the sum of the votes; soft labels divide by the sum",
    ),
}


def read_votes(root: Path, query_type: int, problems: Problems) -> dict[str, tuple[int, ...]]:
    """Read the votes of one query type (2: the face alone, 3: with the voice); adds to `problems`.

    Clip's name -> seven counts in the order of `EMOTIONS`; {} for a table that cannot be used.
    """
    path = root / VOTES
    if not path.is_file():
        problems["votes_missing"].append(VOTES)
        return {}
    if not is_inside(path, root):
        problems["outside_root"].append(VOTES)
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        problems["votes_unreadable"].append(f"{VOTES}: {error}")
        return {}
    header = [title.strip() for title in rows[0]] if rows else []
    if header and header[0].encode().startswith(LFS_POINTER):
        problems["votes_lfs_pointer"].append(VOTES)
        return {}
    missing = [name for name in _COLUMNS if header[1:].count(name) != 1]
    if missing:
        problems["votes_columns"].append(
            f"{VOTES}: needs one column each for {', '.join(missing)} after the rows' names; found {header}"[:300]
        )
        return {}
    columns = [0, *(header.index(name, 1) for name in _COLUMNS)]
    votes: dict[str, tuple[int, ...]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in row):
            cells = [row[column].strip() if column < len(row) else "" for column in columns]
            _add(votes, cells, query_type, f"row {line}", problems)
    if not votes:
        problems["votes_of_this_kind"].append(f"query type {query_type}")
    return votes


def _add(votes: dict[str, tuple[int, ...]], cells: list[str], query_type: int, where: str, problems: Problems) -> None:
    row_name, *vote_cells, name, responses, emo_vote = cells
    row_number = _count(row_name)
    if row_number is None or row_number // _QUERY not in _QUERY_TYPES:
        problems["bad_row_name"].append(f"{where}: {row_name!r}")
        return
    if row_number // _QUERY != query_type:
        return
    if not re.fullmatch(CLIP_NAME, name):
        problems["bad_clip_name"].append(f"{where}: {name[:60]!r}")
        return
    counts = [count for cell in vote_cells if (count := _count(cell)) is not None]
    if len(counts) != len(LETTERS):
        problems["bad_votes"].append(f"{where}: {name}: {', '.join(vote_cells)}")
        return
    if not any(counts):
        problems["votes_all_zero"].append(f"{where}: {name}")
        return
    by_emotion = dict(zip(LETTERS.values(), counts, strict=True))
    row = tuple(by_emotion.get(emotion, 0) for emotion in range(len(EMOTIONS)))
    if name in votes:
        problems["listed_twice" if votes[name] == row else "listed_twice_differently"].append(f"{where}: {name}")
        return
    votes[name] = row
    if _count(responses) != sum(counts):
        problems["responses_total"].append(f"{name}: {responses} instead of {sum(counts)}")
    first = {letter for letter, count in zip(LETTERS, counts, strict=True) if count == max(counts)}
    if set(emo_vote.split(":")) != first:
        problems["vote_contradicts"].append(f"{name}: {emo_vote!r} instead of {':'.join(sorted(first))}")


def _count(text: str) -> int | None:
    """`text` as a whole number from 0 up; None for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
