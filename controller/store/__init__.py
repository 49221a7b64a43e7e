"""What the controller remembers. `Store` is the one door; the modules behind it are one noun each."""

from controller.store.door import Store as Store
