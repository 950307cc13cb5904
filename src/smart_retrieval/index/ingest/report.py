"""What indexing a folder did, in numbers and names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ...files import SkipLog, Skipped

_NAMED = 20
_NOTES_KEPT = 200


@dataclass
class IngestReport:
    """What one run of :func:`~smart_retrieval.index.ingest.folder.index_folder` did.

    Args:
        root: The folder or file.
        seen: Files found that are of a type that is read.
        added: Files that were not in the index before, or not whole.
        updated: Files whose content had changed.
        unchanged: Files the index held already, as they are.
        removed: Files that are gone and whose passages were deleted (with ``sync``).
        passages: Passages and pictures encoded and stored.
        pictures: How many of them are pictures: images, pages, videos.
        passages_removed: Passages deleted: of changed files, of files that are gone, of a run that was killed.
        tokens: Token vectors stored, before any pooling.
        truncated: Tokens at the ends of passages that the model did not see.
        seconds: How long it took.
        skipped: Everything passed over, and why.
        notes: (path, sentence) on what was guessed or repaired while reading; the first 200. A sentence says what
            happened, then particulars after a colon.
        n_notes: How many there were.
        noted: Number of files by what happened in reading them ("encoding guessed").
    """

    root: str
    seen: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    passages: int = 0
    pictures: int = 0
    passages_removed: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    skipped: SkipLog = field(default_factory=SkipLog)
    notes: list[tuple[str, str]] = field(default_factory=list)
    n_notes: int = 0
    noted: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Files, or pages of them, that should have been read and could not be."""
        return self.skipped.failed

    @property
    def failures(self) -> list[Skipped]:
        """The records of those, as far as they are kept."""
        return [record for record in self.skipped if record.failed]

    def note(self, path: str, sentences: list[str]) -> None:
        """Keep what a reader had to say about a file."""
        self.n_notes += len(sentences)
        self.noted.update({sentence.partition(": ")[0] for sentence in sentences})
        self.notes += [(path, sentence) for sentence in sentences][: max(0, _NOTES_KEPT - len(self.notes))]

    def reasons(self) -> list[dict[str, Any]]:
        """Why things were passed over: failures first, then the most frequent; a few are named.

        Example:
            >>> report = IngestReport("docs")
            >>> report.skipped.add(Skipped("a.pdf", "not a readable PDF", "no trailer", failed=True))
            >>> report.reasons()[0]["files"]
            [{'path': 'a.pdf', 'detail': 'no trailer'}]
        """
        failed = Counter(record.reason for record in self.failures)
        order = sorted(self.skipped.counts.items(), key=lambda item: (item[0] not in failed, -item[1], item[0]))
        return [
            {
                "reason": reason,
                "count": count,
                "failed": reason in failed,
                "files": [
                    {"path": record.path, "detail": record.detail} for record in self.skipped.records(reason)[:_NAMED]
                ],
            }
            for reason, count in order
        ]

    def note_kinds(self) -> list[dict[str, Any]]:
        """What was guessed or repaired, most frequent first: in how many files, of which a few are named.

        Example:
            >>> report = IngestReport("docs")
            >>> report.note("a.txt", ["encoding guessed: cp1251"])
            >>> report.note_kinds()
            [{'note': 'encoding guessed', 'count': 1, 'files': [{'path': 'a.txt', 'detail': 'cp1251'}]}]
        """
        named: dict[str, dict[str, str]] = {kind: {} for kind, _ in self.noted.most_common()}
        for path, sentence in self.notes:
            kind, _, detail = sentence.partition(": ")
            named[kind].setdefault(path, detail)
        return [
            {
                "note": kind,
                "count": self.noted[kind],
                "files": [{"path": path, "detail": detail} for path, detail in list(files.items())[:_NAMED]],
            }
            for kind, files in named.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        files = ("seen", "added", "updated", "unchanged", "removed", "failed")
        numbers = ("passages", "pictures", "passages_removed", "tokens", "truncated")
        return {
            "root": self.root,
            "files": {name: getattr(self, name) for name in files},
            **{name: getattr(self, name) for name in numbers},
            "seconds": round(self.seconds, 3),
            "skipped": self.reasons(),
            "notes": {
                "count": self.n_notes,
                "kinds": self.note_kinds(),
                "first": [{"path": path, "note": note} for path, note in self.notes],
            },
        }
