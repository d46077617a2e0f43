"""The contract between those who write a lake table and those who read it.

One fact a module: `versions` (which change is newer), `rows` (changes, metadata, tombstones), `numbers`
(DynamoDB numbers, exactly), `naming` (what tables are called), `catalogue` (how a schema observation is
stored), `health` (how the pipeline's health and its gaps are stored), `exports` (what DynamoDB's exports to S3
look like). It is all that `ingest` may import from this package, and it needs nothing beyond the standard
library.
"""
