"""Parts that objectives are composed of: necks, heads, transformers, masks, momentum copies and losses."""
