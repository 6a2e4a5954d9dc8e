"""One database alone publishes into a storage: copies of it are told apart, and a new storage is noticed."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from datastore_dumper.cli import cli
from datastore_dumper.cli.options import database_of
from datastore_dumper.config import Config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.errors import EXIT_CONFIG, ForeignStorageError
from datastore_dumper.install import install
from datastore_dumper.ownership import Ownership, Record, Verdict, judge
from datastore_dumper.storage.mark import Mark, Place, mark_from_json, read_mark
from datastore_dumper.storage.settings import open_storage
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.faulty_front import Answer, Request, front
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.seaweedfs import S3Server
from tests.support.waiting import eventually

HERE = Place(7, 42, "datastore")
RECORD = Record(uuid4(), True, uuid4(), uuid4(), False, False)
MARK = Mark(RECORD.id, RECORD.seal, HERE)


@pytest.mark.parametrize(
    ("record", "mark", "verdict"),
    [
        (RECORD, MARK, Verdict.OURS),
        (RECORD, replace(MARK, seal=RECORD.next_seal), Verdict.OURS),
        (RECORD, replace(MARK, place=replace(HERE, database="renamed")), Verdict.OURS),
        (RECORD, replace(MARK, place=replace(HERE, database_oid=43)), Verdict.OURS),
        (replace(RECORD, marked=False), MARK, Verdict.OURS),
        (replace(RECORD, marked=False), None, Verdict.UNMARKED),
        (RECORD, None, Verdict.ANOTHER_STORAGE),
    ],
)
def test_what_row_and_mark_say(record: Record, mark: Mark | None, verdict: Verdict) -> None:
    assert judge(record, HERE, mark) is verdict


@pytest.mark.parametrize(
    ("mark", "about"),
    [
        (replace(MARK, id=uuid4(), place=replace(HERE, system_identifier=8)), "holds the files of"),
        (replace(MARK, id=uuid4()), "an installation before this one"),
        (replace(MARK, place=replace(HERE, system_identifier=8)), "is a copy of"),
        (replace(MARK, place=replace(HERE, database="other", database_oid=43)), "is a copy of"),
        (replace(MARK, seal=uuid4()), "another state of this"),
    ],
)
def test_what_only_the_operator_can_say(mark: Mark, about: str) -> None:
    with pytest.raises(ForeignStorageError, match=about) as raised:
        judge(RECORD, HERE, mark)
    assert "datastore-dumper adopt" in raised.value.hint


def test_a_mark_is_read_as_it_was_written() -> None:
    assert mark_from_json(MARK.to_json()) == MARK


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"id": "x"}'])
def test_a_mark_that_is_none_is_nobodys_to_replace(data: bytes) -> None:
    with pytest.raises(ForeignStorageError, match="cannot be read"):
        mark_from_json(data)


@pytest.fixture(params=["disk", "s3"])
def original(request: pytest.FixtureRequest, dumper: Dumper) -> Dumper:
    """A DataStore with a table t, published into a new storage."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        dumper.settings["storage"] = {
            "type": "s3",
            "s3": {
                "endpoint": server.endpoint,
                "bucket": request.getfixturevalue("s3_bucket"),
                "access_key": server.access_key,
                "secret_key": server.secret_key,
                "secure": server.secure,
                "prefix": "production",
            },
        }
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        writer.execute("INSERT INTO t (a) VALUES ('x')")
    assert dumper.once() == 0
    assert dumper.is_fresh()
    return dumper


@pytest.fixture
def copy(original: Dumper, postgres_server: PostgresServer) -> Iterator[Dumper]:
    """The same with a copy of the database, in the same cluster under another name, as a restored dump would be."""
    with postgres_server.new_database("copy", template=original.database.name) as name:
        yield of_database(original, ScratchDatabase(postgres_server, name))


def of_database(dumper: Dumper, database: ScratchDatabase) -> Dumper:
    directory = dumper.directory / database.name
    directory.mkdir()
    settings = {**dumper.settings, "database": {"dsn": database.dsn_for("dumper")}}
    return Dumper(database, directory, settings)


def own_storage(dumper: Dumper) -> None:
    storage = dumper.settings["storage"]
    if storage["type"] == "s3":
        dumper.settings["storage"] = {"type": "s3", "s3": {**storage["s3"], "prefix": "staging"}}
    else:
        files = dumper.directory / "own"
        files.mkdir()
        dumper.settings["storage"] = {"type": "disk", "disk": {"directory": str(files)}}


def change(dumper: Dumper) -> None:
    with dumper.database.connect("ckan_write") as writer:
        writer.execute("INSERT INTO t (a) VALUES ('new')")


def settle(dumper: Dumper, config: Config | None = None) -> None:
    config = config or dumper.config()
    with database_of(config).connect("test") as connection:
        Ownership(open_storage(storage_settings(config)), lambda: 100).settle(connection)


def make_all_garbage_due(dumper: Dumper) -> int:
    """As time does. Returns how many objects are to be deleted."""
    with dumper.database.connect() as admin:
        return admin.execute("UPDATE datastore_dumper.garbage SET delete_after = '-infinity'").rowcount


def make_seal_due(dumper: Dumper) -> None:
    with dumper.database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.installation SET next_seal_at = '-infinity'")


def objects(dumper: Dumper) -> list[str]:
    return [stored.key for stored in dumper.storage.list()]


def run_adopt(dumper: Dumper, *options: str, answer: str = "") -> str:
    result = CliRunner().invoke(cli, ["adopt", "-c", str(dumper.write_config()), *options], input=answer)
    assert result.exception is None, result
    return result.output


def test_a_copy_publishes_and_deletes_nothing(original: Dumper, copy: Dumper) -> None:
    change(copy)
    with copy.database.connect() as admin:  # as a copy made later would have it
        admin.execute(
            "INSERT INTO datastore_dumper.garbage SELECT storage_key, '-infinity' FROM datastore_dumper.dump_status"
        )
    before = objects(original)
    with pytest.raises(ForeignStorageError, match="is a copy of database") as raised:
        copy.once()
    assert raised.value.exit_code == EXIT_CONFIG
    assert objects(original) == before
    assert original.is_fresh()
    assert not copy.is_fresh()
    change(original)
    assert original.once() == 0  # goes on as if nothing had been
    assert original.is_fresh()


def test_a_copy_with_a_storage_of_its_own_makes_all_files_anew(original: Dumper, copy: Dumper) -> None:
    before = objects(original)
    own_storage(copy)
    assert copy.once() == 0
    make_all_garbage_due(copy)
    assert copy.once() == 0
    assert copy.is_fresh()
    assert copy.file("t") == original.file("t")
    assert not set(objects(copy)) & set(before)
    assert objects(original) == before
    assert original.once() == 0


def test_adopting_takes_the_storage_over(original: Dumper, copy: Dumper) -> None:
    with pytest.raises(ForeignStorageError):
        copy.once()
    CliRunner().invoke(cli, ["adopt", "-c", str(copy.write_config())], input="n\n")
    with pytest.raises(ForeignStorageError):
        copy.once()
    assert "Adopted" in run_adopt(copy, answer="y\n")
    change(copy)
    assert copy.once() == 0
    assert copy.is_fresh()
    assert copy.file("t").count(b"\n") == 3
    assert "nothing to adopt" in run_adopt(copy)
    with pytest.raises(ForeignStorageError, match="holds the files of"):
        original.once()
    assert not original.is_fresh()
    assert make_all_garbage_due(copy) > 0
    assert copy.once() == 0
    assert len(objects(copy)) == 2  # csv and csv-bom: the other's files are gone


def test_a_running_daemon_stops_when_its_storage_is_taken(original: Dumper, copy: Dumper) -> None:
    with original.running(look={"reconcile_interval_seconds": 1}) as daemon:
        run_adopt(copy, "--yes")
        daemon.wait_for(
            "text", text=f"Error: The storage holds the files of {place_of(copy)}; this is {place_of(original)}"
        )
        assert daemon.process.wait(90) == EXIT_CONFIG


def place_of(dumper: Dumper) -> Place:
    with dumper.database.connect() as admin:
        row = admin.execute(
            "SELECT (SELECT system_identifier FROM pg_control_system()), oid::int8, datname FROM pg_database"
            " WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return Place(*row)


@pytest.mark.parametrize("lost", ["everything", "directory"])
def test_in_a_new_storage_all_files_are_made_again(dumper: Dumper, lost: str, original: Dumper) -> None:
    if original.settings["storage"]["type"] == "s3":
        if lost == "directory":
            own_storage(original)
        else:
            bucket = original.settings["storage"]["s3"]["bucket"]
            client = original.storage._client._minio  # type: ignore[attr-defined]
            for item in list(client.list_objects(bucket, recursive=True)):
                client.remove_object(bucket, item.object_name)
    elif lost == "directory":
        own_storage(original)
    else:
        files = Path(original.settings["storage"]["disk"]["directory"])
        shutil.rmtree(files)
        files.mkdir()
    assert original.is_fresh()  # nobody has looked yet
    settle(original)
    assert not original.is_fresh()
    assert original.once() == 0
    assert original.is_fresh()
    assert original.file("t") == b"_id,a\r\n1,x\n"
    assert len(objects(original)) == 2


def test_two_databases_that_start_at_once_do_not_share(original: Dumper, copy: Dumper) -> None:
    own_storage(original)
    copy.settings["storage"] = original.settings["storage"]
    with copy.database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.installation SET id = gen_random_uuid(), marked_at = NULL")
    together = threading.Barrier(2)
    refused: list[Dumper] = []

    def start(dumper: Dumper, config: Config) -> None:
        together.wait(90)
        try:
            settle(dumper, config)
        except ForeignStorageError:
            refused.append(dumper)

    threads = [threading.Thread(target=start, args=(each, each.config())) for each in (original, copy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    mark = read_mark(original.storage)
    assert mark is not None
    (winner,) = [each for each in (original, copy) if each not in refused]
    assert mark.place == place_of(winner)


def test_two_daemons_of_one_database_begin_together(original: Dumper) -> None:
    own_storage(original)
    config = original.config()
    together = threading.Barrier(4)
    errors: list[BaseException] = []

    def start() -> None:
        together.wait(90)
        try:
            settle(original, config)
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert original.once() == 0


def test_a_service_that_cannot_tell_whether_there_is_a_mark(original: Dumper, copy: Dumper) -> None:
    """It refuses If-None-Match; so the one that wrote last has the storage, and the other notices."""
    if original.settings["storage"]["type"] != "s3":
        pytest.skip("a file system can tell")
    own_storage(original)
    with front(original.settings["storage"]["s3"]["endpoint"]) as between:
        between.fault = lambda request: (
            Answer(501, b"<Error><Code>NotImplemented</Code></Error>") if "if-none-match" in request.headers else None
        )
        original.settings["storage"]["s3"]["endpoint"] = between.endpoint
        assert original.once() == 0
        assert original.is_fresh()


def test_a_seal_is_turned_when_it_is_due(original: Dumper) -> None:
    before = read_mark(original.storage)
    settle(original)
    assert read_mark(original.storage) == before
    make_seal_due(original)
    settle(original)
    after = read_mark(original.storage)
    assert before is not None
    assert after is not None
    assert after == replace(before, seal=after.seal) != before
    settle(original)
    assert read_mark(original.storage) == after


def test_a_daemon_that_died_while_turning_the_seal(original: Dumper) -> None:
    mark = read_mark(original.storage)
    assert mark is not None
    with original.database.connect() as admin:
        (next_seal,) = admin.execute("SELECT next_seal FROM datastore_dumper.installation").fetchone() or (None,)
    original.storage.write_mark(replace(mark, seal=next_seal).to_json(), replace=True)
    assert original.once() == 0


def test_a_database_set_back_to_an_earlier_state_must_be_adopted(original: Dumper) -> None:
    with original.database.connect() as admin:
        (before,) = admin.execute("SELECT to_jsonb(i) FROM datastore_dumper.installation AS i").fetchone() or (None,)
        for _ in range(2):
            make_seal_due(original)
            assert original.once() == 0
        admin.execute(
            "UPDATE datastore_dumper.installation AS i SET seal = j.seal, next_seal = j.next_seal "
            "FROM jsonb_populate_record(NULL::datastore_dumper.installation, %s::text::jsonb) AS j",
            [json.dumps(before)],
        )
    with pytest.raises(ForeignStorageError, match="restored from a backup"):
        original.once()
    run_adopt(original, "--yes")
    assert not original.is_fresh()
    assert original.once() == 0
    assert original.is_fresh()


def test_a_renamed_database_is_the_same(original: Dumper, postgres_server: PostgresServer) -> None:
    name = original.database.name
    with postgres_server.connect() as admin:
        admin.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_renamed"'.encode())
    try:
        renamed = of_database(original, ScratchDatabase(postgres_server, f"{name}_renamed"))
        change(renamed)
        assert renamed.once() == 0
        assert renamed.is_fresh()
    finally:
        postgres_server.drop_database(f"{name}_renamed")


def test_while_the_mark_cannot_be_read_nothing_is_deleted_but_published(
    dumper: Dumper, s3_server: S3Server, s3_bucket: str
) -> None:
    def fault(request: Request) -> Answer | None:
        return Answer(500) if broken and request.path.endswith(".datastore-dumper.json") else None

    broken = False
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as writer, front(s3_server.endpoint) as between:
        between.fault = fault
        dumper.settings["storage"] = {
            "type": "s3",
            "s3": {
                "endpoint": between.endpoint,
                "bucket": s3_bucket,
                "access_key": s3_server.access_key,
                "secret_key": s3_server.secret_key,
                "secure": False,
            },
        }
        create_table(writer, "t", {"a": "text"})
        with dumper.running(look={"reconcile_interval_seconds": 1}) as daemon:
            daemon.wait_for("published", resource_id="t")
            broken = True
            daemon.wait_for("storage_unverified")
            change(dumper)
            daemon.wait_for("published", 2, resource_id="t")
            assert make_all_garbage_due(dumper) == 2
            seen = len(daemon.all("storage_unverified"))
            daemon.wait_for("storage_unverified", seen + 2)
            assert len(objects(dumper)) == 4
            broken = False
            eventually(lambda: len(objects(dumper)) == 2)
