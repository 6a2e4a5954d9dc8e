"""Values of every type that a column can have, as the text that Postgres reads: the telling ones, and random ones.

None of them makes a dump of CKAN fail; those that do are in `recipes`, each in a table of its own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

TEXTS = (
    "",
    " ",
    "plain",
    "Größe",
    "NULL",
    "null",
    '"',
    '""',
    'say "hi"',
    "it's",
    ",",
    ";",
    "a,b",
    "\t",
    "a\tb",
    "\n",
    "a\nb",
    "\r",
    "a\rb",
    "\r\n",
    "a\r\nb\n",
    " lead",
    "trail ",
    "\\",
    "\\N",
    "\\.",
    "\\u0000",
    "\\x41",
    "a\\",
    "\x01",
    "\x08\x0b\x0c\x1b\x1f",
    "\x7f\x85\x9f",
    "\u00a0",
    "\u2028",
    "a\u2029b",
    "\ufeffbom",
    "\ufffe\uffff",
    "\u200b\u200d\u202e",
    "😀",
    "👨\u200d👩\u200d👧",
    "e\u0301",
    "\u0301",
    "\u0301lone mark",
    "日本語",
    "\U0010ffff",
    '<a href="x">&amp;</a>',
    "]]>",
    "<!-- -->",
    "%s",
    "%(x)s",
    "100%",
    ":x",
    "::int",
    "{0}",
    "$1",
    "/",
    "</script>",
    "-1",
    "1e5",
    "true",
    "=1+1",
    "x" * 5000,
)

_JSONS = (
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.50",
    "1e2",
    "1E-7",
    "1e16",
    "123456789.123456789",
    "9007199254740993",
    "-9223372036854775808",
    "18446744073709551616",
    "123456789012345678901234567890",
    '""',
    '"text"',
    '"\\u00e9\\/\\u2028\\ud83d\\ude00"',
    '"\u2028 é 😀 \\b\\f\\n\\r\\t\\"\\\\ \\u001f\x7f"',
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    ' { "a" : [ 1 , 2.50 , null ] } ',
    '{"a":1,"a":2}',
    '{"a":{"b":[true,false,null,"x",{"c":1e-5}]}}',
    '{"":"empty key","a b":"space","a\\"b":"<&>","\\n\\t\\r":"\u2028","\u2029":"é"}',
    '["<a>&",null,"",[],{}]',
    "[" * 100 + "]" * 100,
)
_DATES = (
    "2024-02-29",
    "0001-01-01",
    "4713-01-01 BC",
    "0044-03-15 BC",
    "9999-12-31",
    "10000-01-01",
    "5874897-12-31",
    "infinity",
    "-infinity",
)
_TIMES = ("00:00", "24:00:00", "23:59:59.999999", "12:34:56.7", "12:34:56.000001")
_TIMESTAMPS = (
    "2024-01-02 03:04:05",
    "2024-01-02 03:04:05.6789",
    "2024-01-02 03:04:05.9999",
    "2024-01-02 03:04:05.000001",
    "1969-12-31 23:59:59.9999",
    "0001-01-01 00:00:00",
    "0044-03-15 12:00:00 BC",
    "4713-01-01 00:00:00 BC",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "294276-12-31 23:59:59.999999",
    "infinity",
    "-infinity",
)
_FLOATS = (
    "0",
    "-0",
    "1",
    "-1.5",
    "0.1",
    "1e15",
    "1e16",
    "123456789012345680",
    "1e17",
    "1e22",
    "1e23",
    "0.0001",
    "0.00001",
    "1e-10",
    "3.4028235e38",
    "1.1754944e-38",
    "NaN",
    "Infinity",
    "-Infinity",
)
_NUMERICS = (
    "0",
    "0.00",
    "-0.0",
    "1",
    "1.50",
    "-1.0",
    "1e2",
    "1e16",
    "1e17",
    "0.0001",
    "0.00001",
    "1e-20",
    "12345678901234567890.123456789",
    "123456789012345678901234567890",
    "9007199254740993",
    "9007199254740993.0",
    "0.1000000000000000055511151231257827",
    "1" + "0" * 300,
    "1e-400",
    "NaN",
)

POOLS: dict[str, tuple[str, ...]] = {
    "text": TEXTS,
    "varchar": TEXTS,
    "bpchar": ("", "a ", " a", "Größe", '"', "a\nb"),
    "char(5)": ("", "abc", "é", "a b"),
    "name": ("plain", "Größe", 'a"b', "a,b"),
    "int2": ("0", "-1", "32767", "-32768"),
    "int4": ("0", "-1", "2147483647", "-2147483648"),
    "int8": ("0", "9007199254740993", "9223372036854775807", "-9223372036854775808"),
    "oid": ("0", "4294967295"),
    "float4": _FLOATS,
    "float8": (*_FLOATS, "1.797e308", "5e-324", "2.2250738585072014e-308", "123456789.123", "1.1"),
    "numeric": _NUMERICS,
    "numeric(12,4)": ("0", "1.5", "-99999999.9999", "NaN"),
    "money": ("0", "1.5", "-1234567.89", "92233720368547758.07"),
    "bool": ("true", "false"),
    "date": _DATES,
    "time": _TIMES,
    "timetz": tuple(time + zone for time in _TIMES for zone in ("+00", "-12:30", "+15:59:59")),
    "timestamp": _TIMESTAMPS,
    "timestamp(0)": _TIMESTAMPS,
    "timestamptz": (
        *(moment for moment in _TIMESTAMPS if not moment.startswith("294276")),  # too late in some time zones
        "2024-07-01 12:00+02",
        "2024-07-01 12:00:00.5-03:30",
        "1883-11-18 12:00+00",
    ),
    "interval": (
        "0",
        "1 day",
        "-1 day",
        "1 year 2 mons -3 days",
        "-1 year -2 mons +3 days -04:05:06.789",
        "1 mon -1 day +02:03:04.5",
        "100 years",
        "-178000000 years",
        "00:00:00.000001",
    ),
    "bytea": ("", "\\x", "\\x00ff", "\\x5c41225c", "\\x0a0d09"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
    "json": (*_JSONS, '"\\u0000"', '{"a\\u0000b":"\\u0000\\u0001"}'),
    "jsonb": (*_JSONS, "1e300"),
    "inet": ("127.0.0.1", "10.0.0.0/8", "::1"),
    "cidr": ("10.0.0.0/8", "2001:db8::/32"),
    "macaddr": ("08:00:2b:01:02:03",),
    "bit(3)": ("101", "000"),
    "varbit": ("", "1", "10101"),
    "point": ("(1,2)", "(1e16,-0.5)"),
    "int4range": ("empty", "[1,5)", "(,)"),
    "tstzrange": ('["2024-01-01 00:00+00","2024-02-01 00:00+00")',),
    "tsvector": ("", "'a':1 'b c':2A"),
}
"""By the name of the type as SQL writes it. NULL goes without saying."""

NESTED = tuple(text for text in _JSONS if text not in ("null", "-0", "18446744073709551616"))
"""For CKAN's type `nested`, which is given as a JSON value."""

OWN_TYPES = {
    "fidelity_mood": ("sad", 'very "happy"', "a,b"),
    "fidelity_pair": ('(1,"x y")', '(,"")'),
    "fidelity_count": ("1", "-1"),
    "fidelity_when": _TIMESTAMPS,
    "fidelity_list": ("{1,2,NULL}", "{}"),
    "fidelity_words": TEXTS,
}
OWN_TYPES_SQL = """
CREATE TYPE fidelity_mood AS ENUM ('sad', 'very "happy"', 'a,b');
CREATE TYPE fidelity_pair AS (a int, b text);
CREATE DOMAIN fidelity_count AS int;
CREATE DOMAIN fidelity_when AS timestamp;
CREATE DOMAIN fidelity_list AS int[];
CREATE DOMAIN fidelity_words AS text;
"""
"""Types that somebody has added to the DataStore."""


def array(elements: list[str | None]) -> str:
    """The text of an array, each element quoted."""
    quoted = (
        "NULL" if each is None else '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in elements
    )
    return "{" + ",".join(quoted) + "}"


def random_value(random: Random, type_: str) -> str | None:
    """A value of the type, telling or arbitrary, or None."""
    if random.random() < 0.12:
        return None
    base = type_.removesuffix("[]")
    if base != type_:
        return array([random_value(random, base) for _ in range(random.choice((0, 1, 2, 3, 7)))])
    arbitrary = _ARBITRARY.get(type_)
    if arbitrary is not None and random.random() < 0.6:
        return arbitrary(random)
    return random.choice(POOLS.get(type_) or OWN_TYPES[type_])


def _text(random: Random) -> str:
    alphabets = ("abc XYZ", '",;\t\n\r\\', "\u2028\u2029\x01\x1f\x7f", "<>&'", "äß日本😀\u0301")
    return "".join(random.choice(random.choice(alphabets)) for _ in range(random.randrange(12)))


def _float8(random: Random) -> str:
    """Any bits, so that Postgres and Python have to agree on the shortest digits."""
    (value,) = struct.unpack("<d", random.randbytes(8))
    return repr(value)


def _float4(random: Random) -> str:
    (value,) = struct.unpack("<f", random.randbytes(4))
    return repr(value)


def _numeric(random: Random) -> str:
    digits = str(random.randrange(10 ** random.randrange(1, 40)))
    return random.choice(("", "-")) + digits + "." + str(random.randrange(10 ** random.randrange(1, 25)))


def _moment(random: Random) -> datetime:
    return datetime(1900, 1, 1) + timedelta(microseconds=random.randrange(150 * 365 * 86400 * 10**6))


def _json(random: Random, depth: int = 0) -> object:
    kind = random.randrange(8 if depth < 3 else 6)
    if kind == 6:
        return [_json(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 7:
        return {_text(random): _json(random, depth + 1) for _ in range(random.randrange(4))}
    scalars = (None, random.random() < 0.5, random.randrange(-(10**20), 10**20), random.random(), _text(random), "")
    return scalars[kind]


def _json_text(random: Random) -> str:
    return json.dumps(
        _json(random), ensure_ascii=random.random() < 0.5, indent=random.choice((None, 1)), sort_keys=False
    )


_ARBITRARY: dict[str, Callable[[Random], str]] = {
    "text": _text,
    "int4": lambda random: str(random.randrange(-(2**31), 2**31)),
    "int8": lambda random: str(random.randrange(-(2**63), 2**63)),
    "float4": _float4,
    "float8": _float8,
    "numeric": _numeric,
    "money": lambda random: f"{random.randrange(-(10**12), 10**12) / 100:.2f}",
    "date": lambda random: str(_moment(random).date()),
    "time": lambda random: str(_moment(random).time()),
    "timestamp": lambda random: str(_moment(random)),
    "timestamptz": lambda random: f"{_moment(random)}{random.choice(('Z', '+02', '-09:30'))}",
    "interval": lambda random: (
        f"{random.randrange(-99, 99)} mons {random.randrange(-99, 99)} days {random.randrange(-(10**12), 10**12)} microseconds"
    ),
    "bytea": lambda random: "\\x" + random.randbytes(random.randrange(9)).hex(),
    "uuid": lambda random: random.randbytes(16).hex(),
    "json": _json_text,
    "jsonb": _json_text,
}
