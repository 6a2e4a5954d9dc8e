"""`datastore-dumper demo`: the whole product on a private Postgres, with nothing to set up."""
