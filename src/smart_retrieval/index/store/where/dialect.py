"""From a ``where`` tree to SQL, of whichever database: every value and every key is a bound parameter.

Conditions are never NULL, so that every one is true or false and ``not`` is its exact opposite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from .language import And, Compare, Contains, Exists, Expression, Field, In, Like, Not, Or, Value

Sql = tuple[str, list[Any]]
Operand = TypeVar("Operand")


class Dialect(NamedTuple, Generic[Operand]):
    """A database's SQL for each kind of condition; :meth:`sql` puts together what a filter says with them."""

    column: Callable[[str], Operand]
    member: Callable[[str, str], Operand]  # of the metadata or of an object, by key
    items: Callable[[Operand], Sql]  # of a list, for FROM
    objects: Callable[[Operand, str], Sql]  # an object by itself, or the items of a list, for FROM, by a name
    item: Operand
    compare: Callable[[Operand, str, str | int | float | bool], Sql]
    among: Callable[[Operand, Sequence[Value]], Sql]
    like: Callable[[Operand, str], Sql]
    has_part: Callable[[Operand, str], Sql]
    there: Callable[[Operand], Sql]
    not_null: Callable[[Operand], Sql]

    def sql(self, node: Expression) -> Sql:
        """The condition of a tree."""
        match node:
            case And(parts):
                return joined(" AND ", [self.sql(part) for part in parts])
            case Or(parts):
                return joined(" OR ", [self.sql(part) for part in parts])
            case Not(part):
                return opposite(self.sql(part))
            case Compare(field, operator, value):
                if value is None:
                    return self.null(field)
                wanted: str | int | float | bool = value
                return self.of_items(field, lambda operand: self.compare(operand, operator, wanted))
            case In(field, values):
                others = [value for value in values if value is not None]
                null = [self.null(field)] if len(others) < len(values) else []
                return joined(" OR ", [*null, self.of_items(field, lambda operand: self.among(operand, others))])
            case Like(field, pattern):
                return self.of_items(field, lambda operand: self.like(operand, pattern))
            case Contains(field, value):
                held = [self.of_items(field, lambda operand: self.compare(operand, "=", value))]
                if isinstance(value, str):
                    held.append(self.of_values(field, lambda operand: self.has_part(operand, str(value))))
                return joined(" OR ", held)
            case Exists(field):
                return self.of_values(field, self.there)

    def null(self, field: Field) -> Sql:
        """The field as a whole is missing or null: a list with null in it is there."""
        return opposite(self.of_values(field, self.not_null))

    def of_values(self, field: Field, condition: Callable[[Operand], Sql]) -> Sql:
        """A condition of one of the values that a path leads to: of more than one only through a list of objects."""
        if field.built_in:
            return condition(self.column(field.path[0]))
        operand, tables = self.member("metadata", field.path[0]), list[Sql]()
        for number, key in enumerate(field.path[1:]):
            tables.append(self.objects(operand, f"within{number}"))
            operand = self.member(f"within{number}", key)
        return exists(tables, condition(operand)) if tables else condition(operand)

    def of_items(self, field: Field, condition: Callable[[Operand], Sql]) -> Sql:
        """A condition of a value, or of one of its items where it is a list."""

        def of_both(operand: Operand) -> Sql:
            return joined(" OR ", [condition(operand), exists([self.items(operand)], condition(self.item))])

        return self.of_values(field, condition if field.built_in else of_both)


def opposite(condition: Sql) -> Sql:
    """What holds where a condition does not."""
    return f"(NOT {condition[0]})", condition[1]


def exists(tables: Sequence[Sql], condition: Sql) -> Sql:
    """Whether a row of some tables meets a condition."""
    listed = ", ".join(sql for sql, _ in tables)
    bound = [value for _, values in [*tables, condition] for value in values]
    return f"EXISTS (SELECT 1 FROM {listed} WHERE {condition[0]})", bound


def joined(word: str, parts: Sequence[Sql]) -> Sql:
    """Conditions with AND or OR between them: all of nothing hold, and none of them does."""
    if not parts:
        return f"(1 = {int(word == ' AND ')})", []
    return f"({word.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]
