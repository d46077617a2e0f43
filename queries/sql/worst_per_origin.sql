-- what: each airport's departures with the longest delays (the top N of a group)
-- grain: one row a flight
-- param: top_n integer = 3  how many flights an airport
-- param: since date = 2013-01-01  leave out flights of earlier days

WITH ranked AS (
    SELECT
        origin,
        carrier_flight,
        departs,
        dest,
        dep_delay,
        row_number() OVER (
            PARTITION BY origin
            ORDER BY dep_delay DESC NULLS LAST, departs ASC NULLS LAST, carrier_flight ASC NULLS LAST
        ) AS place
    FROM flights
    WHERE dep_delay IS NOT NULL AND CAST(day AS DATE) >= :since
)

SELECT
    origin,
    CAST(place AS BIGINT) AS place,
    carrier_flight,
    departs,
    dest,
    dep_delay
FROM ranked
WHERE place <= :top_n
ORDER BY origin ASC NULLS LAST, place ASC NULLS LAST
