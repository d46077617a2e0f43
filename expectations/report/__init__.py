"""One page that shows how pipelines are: self-contained HTML, with charts as inline SVG."""
