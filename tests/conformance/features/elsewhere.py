"""Rows whose tests need more than one module in one process: compilers, files, worlds of ranks."""
