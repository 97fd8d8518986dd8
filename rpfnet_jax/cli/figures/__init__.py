"""The kinds of `rpfnet figure`: each module says what it takes and draws a matplotlib Figure."""
