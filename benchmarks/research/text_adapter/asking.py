"""Other ways to ask for a document than by its title: a request in words, or a sentence of its own.

People write "i am looking for work on ..."; titles do not. The words around the subject are rare in documents, so their
IDF is high, and a model that has only seen titles does not know that they carry nothing.
"""

from __future__ import annotations

import random
import re

TRAIN = (
    "what is known about {}",
    "i am looking for work on {}",
    "please find documents that deal with {}",
    "how does {} work, and what has been written about it",
    "we need information on {}",
    "which texts describe {}",
    "is there anything about {}",
    "can you show me something on {}",
    "tell me about {}",
    "give me all descriptions of {}, not only short remarks",
    "anything concerning {} would be useful",
    "my question is about {}",
    "could someone explain {}",
    "where can one read about {}",
    "who has studied {} and with what result",
    "i want to understand {}",
    "do you have articles that treat {}",
    "has anyone investigated {}",
    "what are the problems of {}",
    "what methods are there for {}",
    "why would one use {}",
    "references to {} are wanted",
    "the subject of interest is {} and what belongs to it",
    "{}: what does the literature say",
)
# Other wordings than those trained on, for the checks.
CHECK = (
    "any papers discussing {}",
    "i would like to learn more regarding {}",
    "help me locate material covering {}",
    "what results have been reported for {}",
    "show everything related to {}",
    "i'm interested in {}, especially recent publications",
    "how can {} be explained",
    "has {} ever been examined, and if so how",
)


def lowered(title: str) -> str:
    """Without the sentence's capital and full stop."""
    title = title.strip().rstrip(".!?:;")
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def verbose(title: str, rng: random.Random, templates: tuple[str, ...] = TRAIN) -> str:
    """The title as a request.

    >>> verbose("Sorting files.", random.Random(0), ("tell me about {}",))
    'tell me about sorting files'
    """
    return rng.choice(templates).format(lowered(title))


def sentence(text: str, rng: random.Random, title: str) -> str:
    """A sentence of the text, at most 25 words; the title if there is none of at least six."""
    found = [s.split() for s in re.split(r"(?<=[.!?])\s+", text)]
    found = [words[:25] for words in found if len(words) >= 6]
    return " ".join(rng.choice(found)) if found else title
