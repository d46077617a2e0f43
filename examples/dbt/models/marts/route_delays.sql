-- One row a route: how many of its flights have arrived, and how late.
select
    origin,
    dest,
    count(*) as flights,
    count(*) filter (status = 'arrived') as arrived,
    round(avg(arr_delay), 1) as average_arrival_delay,
    count(*) filter (arr_delay > 15) as late
from {{ ref('stg_flights') }}
group by origin, dest
