"""Jobs of a pipeline that need more than a few lines to join their parts; `dynalake.pipeline` offers them."""
