"""Where published files live: on disk or in an S3 bucket, behind one protocol (`base`)."""
