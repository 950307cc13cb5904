"""SmartModel: a single-vector model that gives its token vectors beside its embedding."""
