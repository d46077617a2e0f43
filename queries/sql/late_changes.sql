-- what: rows whose newest change reached the lake late, the latest first
-- grain: one row a row of the table, as it stands
-- param: seconds integer = 60  a change is late when it arrives more seconds after it was made than this
-- param: top_n integer = 50  how many rows at most

-- A row that was read (backfill, repair) and not streamed has no time of its change, and is left out.
SELECT
    carrier_flight,
    departs,
    status,
    _lake_version AS version,
    _lake_source_at AS changed_ms,
    _lake_at AS arrived_ms,
    _lake_at - _lake_source_at AS lag_ms
FROM _lake.flights
WHERE
    _lake_source_at IS NOT NULL
    AND _lake_at - _lake_source_at > CAST(:seconds AS BIGINT) * 1000
ORDER BY
    lag_ms DESC NULLS LAST,
    carrier_flight ASC NULLS LAST,
    departs ASC NULLS LAST
LIMIT :top_n
