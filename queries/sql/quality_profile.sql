-- what: for each column of the flights, how many values are missing, how many differ, the least and the greatest
-- grain: one row a column
-- param: missing_above decimal = 50  a column is suspect when more percent of its values are missing than this

WITH profiled AS (
    SELECT
        'arr_delay' AS column_name,
        count(*) AS row_count,
        count(arr_delay) AS present,
        count(DISTINCT arr_delay) AS distinct_values,
        CAST(min(arr_delay) AS VARCHAR) AS least,
        CAST(max(arr_delay) AS VARCHAR) AS greatest
    FROM flights
    UNION ALL
    SELECT
        'carrier',
        count(*),
        count(carrier),
        count(DISTINCT carrier),
        min(carrier),
        max(carrier)
    FROM flights
    UNION ALL
    SELECT
        'carrier_flight',
        count(*),
        count(carrier_flight),
        count(DISTINCT carrier_flight),
        min(carrier_flight),
        max(carrier_flight)
    FROM flights
    UNION ALL
    SELECT
        'day',
        count(*),
        count(day),
        count(DISTINCT day),
        min(day),
        max(day)
    FROM flights
    UNION ALL
    SELECT
        'dep_delay',
        count(*),
        count(dep_delay),
        count(DISTINCT dep_delay),
        CAST(min(dep_delay) AS VARCHAR),
        CAST(max(dep_delay) AS VARCHAR)
    FROM flights
    UNION ALL
    SELECT
        'dest',
        count(*),
        count(dest),
        count(DISTINCT dest),
        min(dest),
        max(dest)
    FROM flights
    UNION ALL
    SELECT
        'distance',
        count(*),
        count(distance),
        count(DISTINCT distance),
        CAST(min(distance) AS VARCHAR),
        CAST(max(distance) AS VARCHAR)
    FROM flights
    UNION ALL
    SELECT
        'origin',
        count(*),
        count(origin),
        count(DISTINCT origin),
        min(origin),
        max(origin)
    FROM flights
    UNION ALL
    SELECT
        'speed_mph',
        count(*),
        count(speed_mph),
        count(DISTINCT speed_mph),
        CAST(min(CAST(speed_mph AS DECIMAL(18, 3))) AS VARCHAR),
        CAST(max(CAST(speed_mph AS DECIMAL(18, 3))) AS VARCHAR)
    FROM flights
    UNION ALL
    SELECT
        'status',
        count(*),
        count(status),
        count(DISTINCT status),
        min(status),
        max(status)
    FROM flights
    UNION ALL
    SELECT
        'tailnum',
        count(*),
        count(tailnum),
        count(DISTINCT tailnum),
        min(tailnum),
        max(tailnum)
    FROM flights
),

counted AS (
    SELECT
        column_name,
        row_count,
        row_count - present AS missing,
        distinct_values,
        least,
        greatest,
        CASE
            WHEN row_count > 0 THEN ((row_count - present) * 20000 + row_count) // (row_count * 2)
        END AS missing_share
    FROM profiled
),

shared AS (
    SELECT
        column_name,
        row_count,
        missing,
        distinct_values,
        least,
        greatest,
        CAST(
            CAST(missing_share AS DECIMAL(16, 0)) * CAST('0.01' AS DECIMAL(2, 2)) AS DECIMAL(18, 2)
        ) AS missing_percent
    FROM counted
)

SELECT
    column_name,
    row_count,
    missing,
    missing_percent,
    distinct_values,
    least,
    greatest,
    missing_percent > :missing_above AS suspect
FROM shared
ORDER BY column_name ASC NULLS LAST
