"""Serving engines over HTTP: started here or attached to, asked, and understood."""
