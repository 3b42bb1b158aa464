"""One file per family; `convert.registry` lists them."""
