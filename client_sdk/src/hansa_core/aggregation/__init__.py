"""How the updates of a round become the next checkpoint. One module per rule."""
