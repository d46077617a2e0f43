-- what: how far flights get: on the board, departed, arrived, arrived on time (a funnel)
-- grain: one row a carrier
-- param: late_after integer = 15  a flight is late when it arrives more minutes late than this

-- Shares in hundredths with whole numbers, as in daily_delays.
WITH steps AS (
    SELECT
        carrier,
        count(*) AS scheduled,
        count(dep_delay) AS departed,
        count(arr_delay) AS arrived,
        CAST(sum(CASE WHEN arr_delay <= :late_after THEN 1 ELSE 0 END) AS BIGINT) AS on_time
    FROM flights
    GROUP BY carrier
)

SELECT
    carrier,
    scheduled,
    departed,
    arrived,
    on_time,
    CAST(
        CAST((departed * 20000 + scheduled) // (scheduled * 2) AS DECIMAL(16, 0)) * CAST('0.01' AS DECIMAL(2, 2))
        AS DECIMAL(18, 2)
    ) AS departed_percent,
    CAST(
        CAST(
            CASE WHEN departed > 0 THEN (arrived * 20000 + departed) // (departed * 2) END AS DECIMAL(16, 0)
        ) * CAST('0.01' AS DECIMAL(2, 2))
        AS DECIMAL(18, 2)
    ) AS arrived_percent,
    CAST(
        CAST(
            CASE WHEN arrived > 0 THEN (on_time * 20000 + arrived) // (arrived * 2) END AS DECIMAL(16, 0)
        ) * CAST('0.01' AS DECIMAL(2, 2))
        AS DECIMAL(18, 2)
    ) AS on_time_percent
FROM steps
ORDER BY scheduled DESC NULLS LAST, carrier ASC NULLS LAST
