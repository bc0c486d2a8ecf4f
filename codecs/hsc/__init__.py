"""HSC: pictures of one domain from styles, a mid-level feature and a generator."""
