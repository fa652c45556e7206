package e2e

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imprint-oci/imprint/cmd"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"imprint": cmd.Main})
}
