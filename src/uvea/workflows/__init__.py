"""The story, one verb per file: check, plan, train, predict, evaluate, demo."""
