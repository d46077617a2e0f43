-- what: routes by how late they arrive on average, the most punctual first
-- grain: one row a route
-- param: min_arrivals integer = 10  leave out routes with fewer flights that arrived
-- param: late_after integer = 15  a flight is late when it arrives more minutes late than this
-- param: top_n integer = 25  how many routes at most

-- In hundredths with whole numbers, as in daily_delays.
WITH by_route AS (
    SELECT
        origin,
        dest,
        count(DISTINCT carrier) AS carriers,
        count(*) AS flights,
        CAST(sum(CASE WHEN status = 'cancelled' THEN 1 ELSE 0 END) AS BIGINT) AS cancelled,
        count(arr_delay) AS arrived,
        CAST(sum(CASE WHEN arr_delay > :late_after THEN 1 ELSE 0 END) AS BIGINT) AS late,
        CAST(sum(coalesce(arr_delay, 0)) AS BIGINT) AS delay
    FROM flights
    GROUP BY origin, dest
),

counted AS (
    SELECT
        origin,
        dest,
        carriers,
        flights,
        cancelled,
        (late * 20000 + arrived) // (arrived * 2) AS late_share,
        (delay * 200 + CASE WHEN delay < 0 THEN -arrived ELSE arrived END) // (arrived * 2) AS average_delay
    FROM by_route
    WHERE arrived > 0 AND arrived >= :min_arrivals
)

SELECT
    row_number() OVER (
        ORDER BY average_delay ASC NULLS LAST, origin ASC NULLS LAST, dest ASC NULLS LAST
    ) AS place,
    origin,
    dest,
    carriers,
    flights,
    cancelled,
    CAST(CAST(late_share AS DECIMAL(16, 0)) * CAST('0.01' AS DECIMAL(2, 2)) AS DECIMAL(18, 2)) AS late_percent,
    CAST(CAST(average_delay AS DECIMAL(16, 0)) * CAST('0.01' AS DECIMAL(2, 2)) AS DECIMAL(18, 2)) AS average_delay
FROM counted
ORDER BY place ASC NULLS LAST
LIMIT :top_n
