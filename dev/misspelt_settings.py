"""Settings that the type checker takes, and misspelt ones that it refuses; mypy reads this, nothing runs it.

An ignored error that is none is an error itself (``warn_unused_ignores``).
"""

from smart_retrieval import SmartIndex, SmartModel


def right(index: SmartIndex, model: SmartModel) -> None:
    """Spelt as they should be."""
    index.search("q", lambda_late=2.0, k=3, where="page > 3")
    index.search_many(["q"], lambda_late=2.0, k=3, where="page > 3")
    index.explain("q", "id", lambda_late=2.0, weights="idf")
    index.upsert(["text"], ids=["a"])
    SmartModel("minilm", device="cpu", max_length=64, local_files_only=True)
    model.similarity(model.encode_query("q"), model.encode_document("d"), lambda_late=2.0, weights="idf")
    SmartModel.from_pretrained("minilm", device="cpu", max_length=64, local_files_only=True)


def wrong(index: SmartIndex, model: SmartModel) -> None:
    """Each is refused."""
    index.search("q", lambda_lat=2.0)  # type: ignore[call-overload]
    index.search_many(["q"], lambda_lat=2.0)  # type: ignore[call-arg]
    index.explain("q", "id", lambda_lat=2.0)  # type: ignore[call-arg]
    index.upsert(["text"], id=["a"])  # type: ignore[call-arg]
    SmartModel("minilm", maxlength=64)  # type: ignore[call-arg]
    model.similarity(model.encode_query("q"), model.encode_document("d"), lambda_lat=2.0)  # type: ignore[call-arg]
    SmartModel.from_pretrained("minilm", maxlength=64)  # type: ignore[call-arg]
