"""What each table is like: a plain description that a seed and a number lead to, the same on every machine."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Any

from tests.fidelity import names, values
from tests.fidelity.suspects import SUSPECTS

_TYPES = tuple(values.POOLS)
_NOT_FOR_API = frozenset({"char(5)", "numeric(12,4)", "timestamp(0)", "bit(3)", "json", "jsonb", "tsvector"})
"""Types that CKAN's API refuses, changes the values of, or fails to put into the full text of a row."""
_API_TYPES = tuple(type_ for type_ in _TYPES if type_ not in _NOT_FOR_API)
_EVERY_PAGES = 40  # one table in so many has more rows than CKAN reads at once
_PAGE = 32000  # PAGINATE_BY in ckanext/datastore/blueprint.py


@dataclass(frozen=True)
class Column:
    """`comment` is what COMMENT ON COLUMN says, `info` what the data dictionary is given over the API."""

    name: str
    type: str
    comment: str | None = None
    info: dict[str, Any] | None = None


@dataclass(frozen=True)
class Recipe:
    """A table and how it comes to be. Values are text as Postgres reads it, or JSON for columns of type `nested`."""

    number: int
    kind: str
    resource_id: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | None, ...], ...] = ()
    over_api: bool = False
    primary_key: tuple[str, ...] = ()
    alias: str | None = None
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    """API actions that follow."""
    statements: tuple[str, ...] = ()
    """SQL that follows, with {table} for the table."""
    later: tuple[str, ...] = ()
    """The same, but run between two exports, so that the second reuses parts of the first."""
    comment_on_id: str | None = None

    def __str__(self) -> str:
        how = "API" if self.over_api else "SQL"
        return f"table {self.number} ({self.kind}, {how}, {len(self.columns)} columns, {len(self.rows)} rows)"


@dataclass
class _Maker:
    """What kinds of tables are made with: the seed's randomness and the number of the table."""

    seed: int
    number: int
    turn: int
    """How many tables of this kind there were before, plus the seed: for kinds that go through a list."""
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(f"{self.seed}/{self.number}")

    def recipe(self, kind: str, columns: Sequence[Column], rows: Sequence[Sequence[str | None]] = ()) -> Recipe:
        resource_id = str(uuid.UUID(bytes=self.random.randbytes(16), version=4))
        return Recipe(self.number, kind, resource_id, tuple(columns), tuple(map(tuple, rows)))

    def rows(self, columns: Sequence[Column], count: int) -> list[tuple[str | None, ...]]:
        return [tuple(values.random_value(self.random, column.type) for column in columns) for _ in range(count)]

    def mix(self, pool: tuple[str, ...], types: tuple[str, ...], count: int) -> list[Column]:
        """Columns with those names and types, a third of them arrays."""
        chosen = names.some(self.random, pool, count)
        array = ("", "", "[]")
        return [Column(name, self.random.choice(types) + self.random.choice(array)) for name in chosen]


def recipes(seed: int, count: int) -> Iterator[Recipe]:
    """The tables of a seed: the first of 200 are the first of 60."""
    kinds = itertools.cycle(_KINDS)
    turns: Counter[Callable[[_Maker], Recipe]] = Counter()
    for number in range(count):
        kind = _more_than_a_page if number % _EVERY_PAGES == _EVERY_PAGES // 2 else next(kinds)
        yield kind(_Maker(seed, number, seed + turns[kind]))
        turns[kind] += 1


def digest(all_recipes: Sequence[Recipe]) -> str:
    """Tells whether two runs had the same tables."""
    described = json.dumps([asdict(recipe) for recipe in all_recipes], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _whole_pools(maker: _Maker) -> Recipe:
    """Every telling value of a few types, alone and in arrays. A run of 200 tables has them all."""
    types = [_TYPES[(maker.turn * 4 + offset) % len(_TYPES)] for offset in range(4)]
    columns, cells = [], []
    for type_ in types:
        pool: list[str | None] = [None, *values.POOLS[type_]]
        columns += [Column(type_, type_), Column(f"{type_}[]", f"{type_}[]")]
        arrays = [None, "{}", *(values.array(pool[at : at + 3]) for at in range(0, len(pool), 3))]
        cells += [pool, arrays]
    return maker.recipe("whole pools", columns, list(itertools.zip_longest(*cells)))


def _mixed_over_api(maker: _Maker) -> Recipe:
    columns = maker.mix(names.FOR_API, _API_TYPES, maker.random.randrange(2, 9))
    columns = [replace(column, info=_info(maker.random)) for column in columns]
    made = maker.recipe("mixed", columns, maker.rows(columns, maker.random.randrange(1, 25)))
    return replace(made, over_api=True, alias=f"alias {maker.number}")


def _mixed_by_sql(maker: _Maker) -> Recipe:
    columns = maker.mix(names.FOR_SQL, (*_TYPES, *values.OWN_TYPES), maker.random.randrange(2, 9))
    columns = [replace(column, comment=_comment(maker.random)) for column in columns]
    made = maker.recipe("mixed", columns, maker.rows(columns, maker.random.randrange(1, 25)))
    if maker.random.random() < 0.3:
        made = replace(made, comment_on_id=_comment(maker.random))
    return made


def _nested(maker: _Maker) -> Recipe:
    pool = list(values.NESTED)
    maker.random.shuffle(pool)
    columns = [Column("nested", "nested"), Column("text", "text"), Column("other", "nested")]
    rows = list(itertools.zip_longest(pool, values.TEXTS[:9], pool[::-1][:7]))
    return replace(maker.recipe("nested", columns, rows), over_api=True)


def _numbers(maker: _Maker) -> Recipe:
    columns = [
        Column(type_, type_) for type_ in ("float8", "float4", "numeric", "float8[]", "numeric[]", "int8", "jsonb")
    ]
    return maker.recipe("numbers", columns, maker.rows(columns, 60))


def _moments(maker: _Maker) -> Recipe:
    kinds = ("timestamp", "timestamptz", "date", "interval", "timetz", "timestamp[]", "timestamptz[]", "interval[]")
    columns = [Column(type_, type_) for type_ in kinds]
    return maker.recipe("moments", columns, maker.rows(columns, 40))


def _texts(maker: _Maker) -> Recipe:
    columns = [
        Column("a", "text"),
        Column("b", "varchar"),
        Column("c", "text[]"),
        Column("d", "json"),
        Column("e", "jsonb"),
    ]
    return maker.recipe("texts", columns, maker.rows(columns, 60))


def _names(maker: _Maker) -> Recipe:
    pool = names.FOR_SQL
    count = maker.random.choice((5, 12, len(pool)))
    columns = [Column(name, "text") for name in names.some(maker.random, pool, count)]
    return maker.recipe("names", columns, maker.rows(columns, 3))


def _comments(maker: _Maker) -> Recipe:
    columns = [Column(f"c{number}", "text", _comment(maker.random)) for number in range(8)]
    return replace(maker.recipe("comments", columns, maker.rows(columns, 2)), comment_on_id=_comment(maker.random))


def _changed_over_api(maker: _Maker) -> Recipe:
    """Upserts, updates, deletes, a new column, a new data dictionary."""
    random = maker.random
    columns = [Column("key", "int4"), Column("text", "text", info=_info(random)), Column("amount", "numeric")]
    rows = [(str(key), *maker.rows(columns[1:], 1)[0]) for key in range(20)]
    records = [{"key": random.randrange(30), "text": random.choice(values.TEXTS)} for _ in range(6)]
    fields = [{"id": "key", "type": "int4"}, {"id": "text", "type": "text", "info": {"label": "neu é\u2028"}}]
    fields += [{"id": "amount", "type": "numeric"}, {"id": "added", "type": "timestamp"}]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("datastore_upsert", {"method": "upsert", "records": records}),
        ("datastore_delete", {"filters": {"key": random.sample(range(20), 5)}}),
        ("datastore_create", {"fields": fields}),
        ("datastore_upsert", {"method": "insert", "records": [{"key": 99, "added": "2024-05-06T07:08:09.123456"}]}),
    ]
    calls.append(("datastore_create", {"fields": [*fields[:2], fields[3]], "delete_fields": True}))
    made = maker.recipe("changed", columns, rows)
    return replace(made, over_api=True, primary_key=("key",), calls=tuple(calls))


def _dropped_columns(maker: _Maker) -> Recipe:
    columns = maker.mix(names.FOR_SQL, _TYPES, 6)
    gone = columns[maker.random.randrange(5)].name
    statements = (
        f"ALTER TABLE {{table}} DROP COLUMN {_quoted(gone)}",
        "ALTER TABLE {table} ADD COLUMN added text DEFAULT 'filled in'",
        "ALTER TABLE {table} ADD COLUMN _added int",
    )
    return replace(maker.recipe("dropped columns", columns, maker.rows(columns, 8)), statements=statements)


def _ids(maker: _Maker) -> Recipe:
    """Any numbers in the order in which nobody inserted them."""
    ids = [*maker.random.sample(range(-(2**31), 2**31), 20), -1, 0, -8192, 8191, 8192, 2**31 - 1]
    statements = tuple(f"INSERT INTO {{table}} (_id, text) VALUES ({_id}, 'row {_id}')" for _id in ids)
    later = ("UPDATE {table} SET text = 'changed' WHERE _id >= 8192", "DELETE FROM {table} WHERE _id = 0")
    return replace(maker.recipe("ids", [Column("text", "text")]), statements=statements, later=later)


def _empty(maker: _Maker) -> Recipe:
    columns = maker.mix(names.FOR_API, _API_TYPES, maker.random.choice((1, 3, 12)))
    return replace(maker.recipe("empty", columns), over_api=maker.random.random() < 0.5)


def _one_column(maker: _Maker) -> Recipe:
    columns = [Column(maker.random.choice(names.FOR_SQL), maker.random.choice(_TYPES))]
    if maker.random.random() < 0.3:
        return maker.recipe("no column", [])
    return maker.recipe("one column", columns, maker.rows(columns, maker.random.randrange(30)))


def _wide(maker: _Maker) -> Recipe:
    columns = maker.mix(names.FOR_SQL, ("text", "int4", "numeric", "timestamp", "bool"), 250)
    return maker.recipe("wide", columns, maker.rows(columns, 3))


def _refusable(maker: _Maker) -> Recipe:
    """One thing that at least one release of CKAN is suspected to fail on."""
    suspect = SUSPECTS[maker.turn % len(SUSPECTS)]
    column = Column(suspect.name, suspect.type, suspect.comment)
    columns = [Column("before", "text"), column, Column("after", "timestamp")]
    rows = [("a", suspect.value, "2024-01-02 03:04:05.678"), (None, None, None)]
    return maker.recipe(f"suspect: {suspect.what}", columns, rows)


def _more_than_a_page(maker: _Maker) -> Recipe:
    count = (_PAGE, _PAGE + 1, 2 * _PAGE, _PAGE - 1, 70_001)[maker.turn % 5]
    columns = [Column("n", "int4"), Column("text", "text"), Column("when", "timestamp"), Column("x", "numeric")]
    fill = (
        "INSERT INTO {table} (n, text, \"when\", x) SELECT n, 'row ' || n, "
        "timestamp '2024-01-01' + n * interval '1234567 microseconds', n / 8.0 "
        f"FROM generate_series(1, {count}) AS n"
    )
    at = maker.random.randrange(1, count)
    later = (
        f"UPDATE {{table}} SET text = text || '…' WHERE _id = {at}",
        f"DELETE FROM {{table}} WHERE _id = {count - at}",
        f"DELETE FROM {{table}} WHERE _id BETWEEN 8192 AND {8192 + maker.random.choice((0, 8191))}",
        "INSERT INTO {table} (text) VALUES ('at the end')",
    )
    return replace(maker.recipe(f"{count} rows", columns), statements=(fill,), later=later)


_KINDS: tuple[Callable[[_Maker], Recipe], ...] = (
    _mixed_over_api,
    _whole_pools,
    _refusable,
    _mixed_by_sql,
    _comments,
    _names,
    _whole_pools,
    _changed_over_api,
    _numbers,
    _refusable,
    _texts,
    _moments,
    _nested,
    _mixed_by_sql,
    _whole_pools,
    _ids,
    _refusable,
    _empty,
    _one_column,
    _dropped_columns,
    _wide,
)


def _info(random: Random) -> dict[str, Any] | None:
    choices: tuple[dict[str, Any] | None, ...] = (
        None,
        {},
        {"label": "Größe", "notes": 'a "b"\n\u2028😀', "type_override": ""},
        {"label": "x", "extra": {"a": [1, 2.5, None]}},
    )
    return random.choice(choices)


def _comment(random: Random) -> str | None:
    """JSON, in the style of 2.10 and of later releases, and of neither."""
    choices = (
        None,
        None,
        '{"label":"old style","notes":"é\u2028"}',
        ' {"_info":{"label":"new style","notes":"a\\nb \\u00e9 \\/"}}',
        ' {"_info":{"a":1.50,"b":1e2,"c":[null,true,{"d":""}],"a":2}}',
        ' {"_info":null}',
        ' {"_info":{}}',
        ' {"_info":[]}',
        ' {"_info":0}',
        ' {"_info":false}',
        ' {"_info":"text"}',
        ' {"_info":{"a":12345678901234567890123,"b":-0.0,"c":-0}}',
        ' { "_info" : { "a" : 1 } , "tabledesigner" : { "x" : 1 } }',
        ' {"other":1}',
        "{}",
        "5",
        '"text"',
        "null",
        "[1, 2]",
    )
    return random.choice(choices)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
