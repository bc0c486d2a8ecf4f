"""`framevault train`: fit a codec to footage and a backbone of one's own."""
