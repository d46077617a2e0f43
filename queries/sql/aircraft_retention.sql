-- what: of the aircraft first seen on a day, how many are seen again some days later (retention)
-- grain: one row a first day and a number of days later
-- param: days integer = 7  how many days later at most

WITH seen AS (
    SELECT DISTINCT
        tailnum,
        CAST(day AS DATE) AS seen_on
    FROM flights
    WHERE tailnum IS NOT NULL AND status <> 'cancelled'
),

cohorts AS (
    SELECT
        tailnum,
        min(seen_on) AS first_day
    FROM seen
    GROUP BY tailnum
),

sizes AS (
    SELECT
        first_day,
        count(*) AS aircraft
    FROM cohorts
    GROUP BY first_day
),

returns AS (
    SELECT
        c.first_day,
        CAST(date_diff('day', c.first_day, s.seen_on) AS BIGINT) AS days_later,
        count(*) AS seen_again
    FROM cohorts AS c
    INNER JOIN seen AS s ON c.tailnum = s.tailnum
    GROUP BY c.first_day, CAST(date_diff('day', c.first_day, s.seen_on) AS BIGINT)
)

SELECT
    r.first_day,
    r.days_later,
    z.aircraft,
    r.seen_again,
    CAST(
        CAST((r.seen_again * 20000 + z.aircraft) // (z.aircraft * 2) AS DECIMAL(16, 0))
        * CAST('0.01' AS DECIMAL(2, 2))
        AS DECIMAL(18, 2)
    ) AS retained_percent
FROM returns AS r
INNER JOIN sizes AS z ON r.first_day = z.first_day
WHERE r.days_later <= :days
ORDER BY r.first_day ASC NULLS LAST, r.days_later ASC NULLS LAST
