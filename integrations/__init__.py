"""Adapters to other libraries, one folder each; the core never imports them."""
