"""The demo: the main job on real data, on an embedded AWS with two accounts."""
