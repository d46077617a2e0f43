-- Fails where dynalake knows that the lake may lack changes: `dynalake status` says what mends it.
select table_name, gaps
from lake._lake.tables
where not complete
