"""`framevault bench`: the measurements that the README's claims are rows of. Real bytes, never estimates."""
