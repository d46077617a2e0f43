-- Names and types as the marts want them. The scheduled arrival came as a number at first ("517") and as a time later
-- ("05:17"): the column holds the numbers, its companion whatever was none.
select
    carrier_flight || ' ' || departs as flight_id,
    carrier,
    flight as flight_number,
    origin,
    dest,
    strptime(day, '%Y-%m-%d')::date as flight_date,
    status,
    coalesce(
        make_time(sched_arr // 100, sched_arr % 100, 0),
        strptime(sched_arr__other ->> '$.S', '%H:%M')::time
    ) as scheduled_arrival,
    dep_delay,
    arr_delay,
    speed_mph,
    list_last(history).status as last_event
from {{ source('lake', 'flights') }}
