"""Retrievers for LangChain, LlamaIndex, Haystack and DSPy: one module each, imported by nothing else."""
