-- what: flights that left late, the latest first
-- grain: one row a flight
-- param: minutes integer = 60  the least delay at departure, minutes
-- param: top_n integer = 20  how many flights at most

SELECT
    carrier_flight,
    departs,
    dest,
    status,
    dep_delay,
    arr_delay
FROM flights
WHERE dep_delay >= :minutes
ORDER BY
    dep_delay DESC NULLS LAST,
    departs ASC NULLS LAST,
    carrier_flight ASC NULLS LAST
LIMIT :top_n
