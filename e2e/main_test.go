package e2e

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imprint-oci/imprint/cmd"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for one another's settling and retries, not for a processor.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"imprint": cmd.Main})
}

// quickExit is GORACE for the processes that tests start: the race detector waits a second at each exit otherwise.
const quickExit = "atexit_sleep_ms=0"
