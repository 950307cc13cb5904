"""Largest products of token vectors: prepared documents, numbers of fewer bits, compiled kernels."""
