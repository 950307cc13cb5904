from __future__ import annotations

import pytest
from fixtures.callers import ACME, ADMIN, BETA, FIELD
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import DuplicateIdError, FilterError, NotAllowedError, ServerError, UnknownIdError
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.index.store.where import And, compile_where, parse
from smart_retrieval.server import Caller, Tenant
from smart_retrieval.server.stored import Stored


@pytest.fixture
def store(folder):
    with SmartIndex.open(folder) as index:
        yield Stored(index)


WIDENING = [
    "x = 1) or (1 = 1",
    "number >= 0) or (number >= 0",
    "number = 1 or team = 'beta'",
    "not (team = 'acme')",
    "team exists or team not exists",
    "id exists",
    "number = 1) or team = 'beta' or (number = 2",
    "`team` = 'beta'",
    "metadata.team = 'beta'",
]


@pytest.mark.parametrize("where", WIDENING)
def test_no_filter_of_a_request_widens_the_tenants(store, where):
    own = set(store.ids(ACME.fixed))
    assert len(own) == 9
    try:
        within = ACME.within(where)
    except FilterError:
        return
    assert set(store.ids(within)) <= own


@given(st.text(alphabet="()'\"` or=tam1\n", max_size=25))
def test_a_filter_is_read_as_one_part_beside_the_fixed_one(where):
    try:
        within = ACME.within(where)
    except FilterError:
        return
    if not where.strip():
        assert within == ACME.fixed
        return
    assert parse(within) == And((parse(ACME.fixed), parse(where)))
    compile_where(within)


def test_ids_of_others_look_as_if_absent(store):
    assert ACME.find(store, ["d0", "d1", "d16", "nothing"]) == ["d0", None, "d16", None]
    with pytest.raises(UnknownIdError, match="found no document 'd1'") as hidden:
        ACME.require(store, ["d0", "d1"])
    with pytest.raises(UnknownIdError, match="found no document 'd99'") as absent:
        ACME.require(store, ["d0", "d99"])
    assert str(hidden.value).replace("d1", "") == str(absent.value).replace("d99", "")
    assert ADMIN.find(store, ["d1", "\ud800", "a\0b"]) == ["d1", None, None]


def test_new_ids_are_a_tenants_own(store):
    assert ACME.new_ids(store, ["d1", "new"], replace=False) == ["acme::d1", "acme::new"]
    assert ACME.new_ids(store, ["d0"], replace=True) == ["d0"]
    with pytest.raises(DuplicateIdError, match="'d0' is there"):
        ACME.new_ids(store, ["d0"], replace=False)
    with pytest.raises(NotAllowedError, match="shared"):
        ACME.new_ids(store, ["d16"], replace=True)
    assert ADMIN.new_ids(store, ["d1"], replace=True) == ["d1"]


@pytest.mark.parametrize("name", ["beta", ["acme", "beta"], None, 3, {"a": 1}])
def test_a_document_cannot_name_another_tenant(name):
    with pytest.raises(NotAllowedError, match="expected 'acme'"):
        ACME.stamped({FIELD: name}, "a")


@pytest.mark.parametrize("key", ["te\u00adam", "team\ufeff", "\u200eteam", "te\u0000am"])
def test_nor_by_a_field_that_becomes_the_tenants_where_it_is_stored(key, store):
    with pytest.raises(NotAllowedError):
        ACME.stamped({key: "beta"}, "a")
    assert ACME.stamped({key: "acme", "year": 1}, "a") == {FIELD: "acme", "year": 1}


def test_a_shared_document_is_nobodys_own(store):
    documents = store.get(["d0", "d1", "d16"])
    assert [ACME.owns(document) for document in documents] == [True, False, False]
    assert [ADMIN.owns(document) for document in documents] == [True] * 3


@pytest.mark.parametrize("value", ["", "a b", "a'b", "a::b", "a:", 'a"', "a`", "a\\", "\ud800", "a\nb"])
def test_tenants_with_names_that_do_not_fit_are_refused(value):
    with pytest.raises(ServerError):
        Tenant(FIELD, value)


@pytest.mark.parametrize("field", ["", "a.b", "a b", "`a`", "1a"])
def test_tenant_fields_that_are_no_names_are_refused(field):
    with pytest.raises(ServerError):
        Tenant(field, "acme")


def test_who_may_write():
    BETA.require_write()
    with pytest.raises(NotAllowedError, match="only reads"):
        Caller("read").require_write()
    with pytest.raises(NotAllowedError, match="fixed filter"):
        Caller("write", where="year > 1").require_write()
    assert Caller(where="year > 1").within("id = 'a'") == "(year > 1) and (id = 'a')"
