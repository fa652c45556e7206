//go:build unix

package registry

import (
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// limitFileSize lets no file of this process grow beyond n bytes.
func limitFileSize(t *testing.T, n int64) {
	t.Helper()
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)}); err != nil {
		t.Skip(err)
	}
}
