"""The CKAN plugin: hands out ready-made DataStore dumps, and leaves every other request to CKAN's own dump."""
