"""``python3 -m dino_detector.train``: train a detector, or evaluate one with ``--only_evaluate``."""

import sys
from types import ModuleType
from typing import Any

from dino_detector.commands.train import main


class _CallableModule(ModuleType):
    """An import of this module takes the place of the function `dino_detector.train`, so it calls that function."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        from dino_detector.api.run import train

        return train(*args, **settings)

    @property
    def __signature__(self) -> Any:
        """The signature of the function, for `help` and editors."""
        from dino_detector.api.run import train

        return train.__signature__

    @property
    def __doc__(self) -> str:
        """The documentation of the function, with all settings."""
        from dino_detector.api.run import train

        return train.__doc__


if __name__ == "__main__":
    sys.exit(main(prog="python3 -m dino_detector.train"))
elif __name__ in sys.modules:
    sys.modules[__name__].__class__ = _CallableModule
