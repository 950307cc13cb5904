"""``python -m smart_retrieval`` is ``smart``, for launchers that start modules: ``accelerate launch -m``."""

from .cli.main import main

if __name__ == "__main__":
    main()
