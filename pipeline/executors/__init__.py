"""Who runs the tasks: the threads of this process, or the actors of a Ray cluster; the same retries in both."""
