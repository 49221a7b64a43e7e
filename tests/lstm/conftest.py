"""These tests need PyTorch, an optional extra: `make test-lstm` installs it and runs them, `make test` leaves them out
where it isn't installed."""

from controller.lstm_training import available

collect_ignore_glob = [] if available() else ["test_*.py"]
