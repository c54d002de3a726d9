"""What tests need of the machine beside Python. A test that needs something bears its marker; see pyproject.toml."""
