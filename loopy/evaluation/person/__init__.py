"""How a model of one person speaks: made sentences beside held-out true ones."""
