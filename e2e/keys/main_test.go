package keys

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
)

// built is the folder of the executables.
var built string

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of these tests wait for one another's patience, not for a processor.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "imprint-built")
	if err != nil {
		panic(err)
	}
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	plugintest.Clean()
	os.Exit(code)
}

// build builds both executables by the Makefile.
func build(dir string) error {
	c := exec.Command("make", "-s", "build", "DIST="+dir)
	c.Dir = filepath.Join("..", "..")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
}
