"""One job a module: what each command of the command line does."""
