"""dynalake: every DynamoDB change in one lake account, and what analysts make of it."""
