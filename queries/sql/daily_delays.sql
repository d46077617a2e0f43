-- what: each day's delays, and the route that left latest on average
-- grain: one row a day that has flights
-- param: late_after integer = 15  a flight is late when it leaves more minutes late than this

-- Averages and shares are counted in hundredths with whole numbers, rounded half away from zero: a DOUBLE
-- would round differently on different engines.
WITH by_route AS (
    SELECT
        day,
        origin,
        dest,
        count(*) AS flights,
        CAST(sum(CASE WHEN status = 'cancelled' THEN 1 ELSE 0 END) AS BIGINT) AS cancelled,
        count(dep_delay) AS departed,
        CAST(sum(CASE WHEN dep_delay > :late_after THEN 1 ELSE 0 END) AS BIGINT) AS late,
        CAST(sum(coalesce(dep_delay, 0)) AS BIGINT) AS delay
    FROM flights
    GROUP BY day, origin, dest
),

averaged AS (
    SELECT
        day,
        origin,
        dest,
        flights,
        cancelled,
        departed,
        late,
        delay,
        CASE
            WHEN departed > 0
                THEN (delay * 200 + CASE WHEN delay < 0 THEN -departed ELSE departed END) // (departed * 2)
        END AS route_average
    FROM by_route
),

ranked AS (
    SELECT
        day,
        origin,
        dest,
        flights,
        cancelled,
        departed,
        late,
        delay,
        route_average,
        row_number() OVER (
            PARTITION BY day
            ORDER BY route_average DESC NULLS LAST, origin ASC NULLS LAST, dest ASC NULLS LAST
        ) AS place
    FROM averaged
),

by_day AS (
    SELECT
        day,
        CAST(sum(flights) AS BIGINT) AS flights,
        CAST(sum(cancelled) AS BIGINT) AS cancelled,
        CAST(sum(departed) AS BIGINT) AS departed,
        CAST(sum(late) AS BIGINT) AS late,
        CAST(sum(delay) AS BIGINT) AS delay,
        max(CASE WHEN place = 1 AND departed > 0 THEN concat(origin, '-', dest) END) AS worst_route,
        max(CASE WHEN place = 1 THEN route_average END) AS worst_average
    FROM ranked
    GROUP BY day
),

counted AS (
    SELECT
        day,
        flights,
        cancelled,
        worst_route,
        worst_average,
        CASE WHEN departed > 0 THEN (late * 20000 + departed) // (departed * 2) END AS late_share,
        CASE
            WHEN departed > 0
                THEN (delay * 200 + CASE WHEN delay < 0 THEN -departed ELSE departed END) // (departed * 2)
        END AS average_delay
    FROM by_day
)

SELECT
    day,
    flights,
    cancelled,
    CAST(CAST(late_share AS DECIMAL(16, 0)) * CAST('0.01' AS DECIMAL(2, 2)) AS DECIMAL(18, 2)) AS late_percent,
    CAST(CAST(average_delay AS DECIMAL(16, 0)) * CAST('0.01' AS DECIMAL(2, 2)) AS DECIMAL(18, 2)) AS average_delay,
    worst_route,
    CAST(CAST(worst_average AS DECIMAL(16, 0)) * CAST('0.01' AS DECIMAL(2, 2)) AS DECIMAL(18, 2)) AS worst_average
FROM counted
ORDER BY day ASC NULLS LAST
