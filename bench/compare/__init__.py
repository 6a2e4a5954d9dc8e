"""Four ways to a ready file beside each other, on one CKAN and one Postgres: `python -m bench.compare`.

How it is measured, what came out, and where this product loses: docs/explanation/comparison.md."""
