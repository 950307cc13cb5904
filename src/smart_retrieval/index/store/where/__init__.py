"""Filters over the documents: the language, its SQL, and SQLite's."""

from .dialect import Dialect as Dialect
from .dialect import Sql as Sql
from .dialect import joined as joined
from .language import BUILT_IN as BUILT_IN
from .language import And as And
from .language import Compare as Compare
from .language import Contains as Contains
from .language import Exists as Exists
from .language import Expression as Expression
from .language import Field as Field
from .language import In as In
from .language import Like as Like
from .language import Not as Not
from .language import OfKinds as OfKinds
from .language import Or as Or
from .language import Value as Value
from .language import as_written as as_written
from .language import keys_of as keys_of
from .language import nfc as nfc
from .language import parse as parse
from .language import paths_of as paths_of
from .language import spellings as spellings
from .sqlite import add_functions as add_functions
from .sqlite import compile_where as compile_where
