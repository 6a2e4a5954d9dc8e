"""The DataStore that tests without CKAN use has CKAN's shape and CKAN's privileges."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.datastore import create_table, insert
from tests.support.postgres import ScratchDatabase


def test_the_write_role_owns_the_table_and_the_read_role_may_read_it(database: ScratchDatabase) -> None:
    with database.connect("ckan_write") as writer:
        create_table(writer, 'a "quoted" näme', {"x": "int4", "n": "nested"}, info={"x": {"label": "it's x"}})
        insert(writer, 'a "quoted" näme', ["x", "n"], [[1, ('{"a": 1}', None)], [2, None]])
    with database.connect("ckan_read") as reader:
        rows = reader.execute('SELECT _id, _full_text, x, (n).json FROM "a ""quoted"" näme" ORDER BY _id').fetchall()
        assert rows == [(1, "'1':1,4 'extra':5 'json':2 'null':6", 1, {"a": 1}), (2, "'2':1", 2, None)]
        comment = reader.execute("""SELECT col_description('"a ""quoted"" näme"'::regclass, 3)""").fetchone()
        assert comment == (' {"_info":{"label":"it\'s x"}}',)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute('DELETE FROM "a ""quoted"" näme"')
    with database.connect("dumper") as dumper, pytest.raises(psycopg.errors.InsufficientPrivilege):
        dumper.execute('TABLE public."a ""quoted"" näme"')


def test_each_test_has_a_database_of_its_own(database: ScratchDatabase) -> None:
    with database.connect() as connection:
        assert connection.execute("SELECT name FROM _table_metadata").fetchall() == []
