"""What CKAN is suspected to fail on in one release or another. What comes of each: docs/reference/refused-dumps.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suspect:
    """A column with something odd about its value, its name or its comment."""

    what: str
    value: str | None = "x"
    name: str = "c"
    type: str = "text"
    comment: str | None = None


SUSPECTS = (
    Suspect("a comment that is not JSON", comment="not JSON"),
    Suspect("a JSON number beyond any float", "[1E400, -1E400]", type="json"),
    Suspect("half of a surrogate pair in json", '{"a":"\\ud800"}', type="json"),
    Suspect("half of a surrogate pair as a key", '{"\\udc00":1}', type="json"),
    Suspect("a colon in a name", name="a :b"),
    Suspect("a percent sign in a name", name="50%"),
    Suspect("a placeholder in a name", name="%s"),
    Suspect("a named placeholder in a name", name="%(a)s"),
    Suspect("a numeric with a fraction beyond any float", "1" + "0" * 400 + ".5", type="numeric"),
    Suspect("the largest float", "1.7976931348623157e308", type="float8"),
    Suspect("an integer beyond any float", "1" + "0" * 400, type="numeric"),
    Suspect("an integer of jsonb beyond any float", "1e400", type="jsonb"),
    Suspect("an integer of 5000 digits", "1" + "0" * 5000, type="numeric"),
    Suspect("an integer of 5000 digits in json", "1" + "0" * 5000, type="json"),
    Suspect("json nested 3000 deep", "[" * 3000 + "]" * 3000, type="json"),
    Suspect("json objects nested 2000 deep", '{"a":' * 2000 + "1" + "}" * 2000, type="json"),
    Suspect("a name like an XML name with a namespace", name="{urn:x}b"),
    Suspect("a brace at the start of a name", name="{a"),
    Suspect("a column called j", "1", name="j", type="int4"),
    Suspect("a column called v", name="v"),
    Suspect("a column called z", name="z"),
    Suspect("a column called select_cols", name="select_cols"),
    Suspect("a column called records_page", name="records_page"),
    Suspect("a column called n", name="n"),
    Suspect("a backslash and a colon in a name", name="a\\:b"),
    Suspect("a semicolon in a name", name="a;b"),
    Suspect("a hash in a name", name="#"),
    Suspect("a backslash and a quote in a name", name="a\\'b"),
    Suspect("braces in a name", name="{0}"),
    Suspect("a comment of an empty string", comment=" "),
    Suspect("a JSON array as comment", comment='["a"]'),
    Suspect("a comment with half of a surrogate pair", comment=' {"_info":{"a":"\\ud800"}}'),
    Suspect("a comment with NaN", comment=' {"_info":{"a":NaN}}'),
    Suspect("json with NaN as a key", '{"NaN":1}', type="json"),
    Suspect("characters that XML has no place for", "\x02\ufffe"),
    Suspect("a bytea array", '{"\\\\x00"}', type="bytea[]"),
    Suspect("an array with bounds", "[5:6]={1,2}", type="int4[]"),
    Suspect("an array of arrays", '{{a,b},{"c d",NULL}}', type="text[]"),
    Suspect("a composite with a null", None, type="nested"),
    Suspect("a name with a question mark", name="what?"),
    Suspect("a name with a double colon", name="a::b"),
    Suspect("a name that begins with a colon", name=":a"),
)
