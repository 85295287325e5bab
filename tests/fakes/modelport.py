"""The modelport command with the fakes in its tables: `python -m tests.fakes.modelport …`."""

from modelport.cli.main import main
from modelport.engines import ENGINES
from modelport.platforms import PLATFORMS

ENGINES["stub"] = "tests.fakes.stub:StubEngine"
PLATFORMS["slow"] = "tests.fakes.slow_platform:SlowPlatform"

if __name__ == "__main__":
    main()
