"""The catalogues have every sentence of code and templates, and what CKAN reads is what the translators wrote."""

from __future__ import annotations

import gettext
import re
from pathlib import Path

import pytest

from tests.ckan.dumps_portal import COUNTS, DumpsPortal
from tests.support import translations
from tests.support.ckan_env import CkanEnvironment
from tests.support.ckan_site import CkanPlatform
from tests.support.translations import DOMAIN, I18N, catalogue, languages

pytestmark = pytest.mark.ckan


@pytest.fixture(scope="module")
def environment(ckan_platform: CkanPlatform) -> CkanEnvironment:
    return ckan_platform.environment


def sentences(text: str) -> set[str]:
    """The sentences to translate, as a catalogue writes them, whatever its release of Babel breaks lines at."""
    joined = text.replace('"\n"', "")
    return set(re.findall(r'^msgid(?:_plural)? "(.+)"$', joined, re.MULTILINE))


def compiled(path: Path) -> dict[object, object]:
    """What is in a `.mo` file, but for its header, which has a time."""
    with path.open("rb") as file:
        return {key: value for key, value in vars(gettext.GNUTranslations(file))["_catalog"].items() if key}


def test_the_template_has_every_sentence(environment: CkanEnvironment) -> None:
    now = sentences(translations.extract(environment))
    assert len(now) > 40
    assert sentences((I18N / f"{DOMAIN}.pot").read_text(encoding="utf-8")) == now, "run `make translations`"


@pytest.mark.parametrize("language", languages())
def test_every_sentence_is_translated(language: str, environment: CkanEnvironment, tmp_path: Path) -> None:
    po = catalogue(language)
    text = po.read_text(encoding="utf-8")
    assert sentences(text) == sentences((I18N / f"{DOMAIN}.pot").read_text(encoding="utf-8")), "run `make translations`"
    assert "fuzzy" not in text
    assert re.findall(r'^msgid "(.+)"\n(?:msgid_plural .+\n)?msgstr(?:\[\d\])? ""\n(?!")', text, re.MULTILINE) == []
    translations.compile_to(environment, language, tmp_path / "compiled.mo")
    assert compiled(tmp_path / "compiled.mo") == compiled(po.with_suffix(".mo")), "run `make translations`"


def test_a_page_in_german(dumps: DumpsPortal) -> None:
    dumps.change(COUNTS)
    page = dumps.site.get(f"/de/dataset/cycle-traffic/resource/{dumps.ids[COUNTS]}").data.decode()
    assert "in Vorbereitung" in page
    assert "being prepared" not in page
    admin = dumps.site.get("/de/ckan-admin/datastore-dumps", token=dumps.tokens["root"]).data.decode()
    assert "DataStore-Dumps" in admin
    assert "Veraltet" in admin
