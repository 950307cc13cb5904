"""SmartIndex: a durable, compressed, filterable store of documents and its search."""
