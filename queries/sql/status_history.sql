-- what: each status that a day's flights had, from when and until when (a slowly changing attribute)
-- grain: one row a status of a flight
-- param: day text = 2013-01-01  the day of the scheduled departure

-- `moment` is a timestamp where the entry has a time of day; midnight is written 24:00 in the data.
WITH entries AS (
    SELECT
        f.carrier_flight,
        f.departs,
        h.place,
        h.entry.status AS status,
        h.entry.at AS valid_from
    FROM flights AS f
    CROSS JOIN unnest(f.history) WITH ORDINALITY AS h (entry, place)
    WHERE f.day = :day
),

spans AS (
    SELECT
        carrier_flight,
        departs,
        place,
        status,
        valid_from,
        lead(valid_from) OVER (
            PARTITION BY carrier_flight, departs ORDER BY place ASC NULLS LAST
        ) AS valid_to,
        lead(status) OVER (
            PARTITION BY carrier_flight, departs ORDER BY place ASC NULLS LAST
        ) AS next_status
    FROM entries
)

SELECT
    carrier_flight,
    departs,
    CAST(place AS BIGINT) AS place,
    status,
    valid_from,
    valid_to,
    CASE
        WHEN length(valid_from) = 16 AND substr(valid_from, 12, 2) < '24'
            THEN CAST(concat(replace(valid_from, 'T', ' '), ':00') AS TIMESTAMP)
    END AS moment,
    next_status IS NULL AS is_current
FROM spans
ORDER BY
    carrier_flight ASC NULLS LAST,
    departs ASC NULLS LAST,
    place ASC NULLS LAST
