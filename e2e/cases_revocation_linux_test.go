package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/imprint-oci/imprint/trust/revtest"
)

// TestF36CacheFull: a list that does not fit on the disk is used all the same, and nothing half-written is left.
func TestF36CacheFull(t *testing.T) {
	t.Parallel()
	o := newRevocable(t, newFake(t), namesList)
	disk := o.at("disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip("no file system can be mounted here (TestX15Cache has other folders of no use instead):", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	verify := []string{"verify", o.ref, "--policy", o.policy("enforce", enforceNetwork), "--allow-private"}
	o.env = append(slices.Clone(o.env), "IMPRINT_CACHE="+disk)
	o.want(t, 0, "", verify...) // a little one fits
	for range 2000 {            // some 80 KiB
		o.issuer.Revoke(o.root.Leaf(o.key.Public(), "another"), revtest.Revoked{})
	}
	o.issuer.Revoke(o.signer, revtest.Revoked{})
	kept, err := filepath.Glob(filepath.Join(disk, "crl", "*.crl"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("the cache holds %q, %v", kept, err)
	}
	if err := os.Truncate(kept[0], 0); err != nil {
		t.Fatal(err)
	}
	out := o.run(t, verify...)
	if out.code != 1 || !strings.Contains(out.stderr, "no space left") {
		t.Errorf("exit %d: %s", out.code, out.stderr)
	}
	left, err := os.ReadDir(filepath.Join(disk, "crl"))
	if err != nil || len(left) != 1 {
		t.Errorf("the cache holds %v, %v", left, err)
	}
}
