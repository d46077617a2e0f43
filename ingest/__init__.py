"""Ingest: from the source's stream to the lake table, and the recovery that makes up for what was missed.

From the lake package it imports `lake.contract` alone. The Lambda's part (`ingest.handler` and what that
imports) needs boto3 and aws-lambda-powertools and nothing else.
"""
