"""How networks come to be: one loop, its configuration, and the evaluation of what came out."""
