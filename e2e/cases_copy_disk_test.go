//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestF36DiskFull: what does not fit on the disk ends in 8; what was there is there, and nothing half-written beside it.
func TestF36DiskFull(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	disk := filepath.Join(p.dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("no file system can be mounted here (registry's TestF36DiskFull limits the size of files instead):", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	source := regtest.New(t, regtest.WithAPI)
	little, err := fixture.Single(t.Context(), source.Host+"/app:small", fixture.Options{Layer: 2000})
	if err != nil {
		t.Fatal(err)
	}
	large, err := fixture.Single(t.Context(), source.Host+"/app:large", fixture.Options{Layer: 1 << 20, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	want, err := fixture.Walk(t.Context(), little.Reference)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"oci:" + disk + "/layout", "oci-archive:" + disk + "/archive.tar"} {
		kind, path, _ := strings.Cut(place, ":")
		t.Run("F36 "+kind, func(t *testing.T) {
			more := []string{}
			if kind == "oci-archive" {
				more = append(more, "--append")
			}
			p.want(t, 0, "", append([]string{"copy", little.Reference, place}, more...)...)
			before := files(t, path)
			o := p.want(t, 8, "disk", append([]string{"copy", large.Reference, place}, more...)...)
			if err := oneError("", withoutWarnings(o.stderr)); err != nil || !strings.Contains(o.stderr, "no space left") {
				t.Errorf("%v: %s", err, o.stderr)
			}
			after := files(t, path)
			for name, b := range before {
				if after[name] != b {
					t.Errorf("%s is another", name)
				}
			}
			for name := range after {
				if strings.Contains(name, "tmp") || strings.Contains(name, "partial") || kind == "oci-archive" && before[name] == "" {
					t.Errorf("%s was left", name)
				}
			}
			got, err := fixture.Walk(t.Context(), place+":small")
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
			p.want(t, 4, "not-found", "inspect", place+":large")
		})
	}
	t.Cleanup(func() {
		entries, err := os.ReadDir(disk)
		if err != nil || len(entries) != 2 {
			t.Errorf("the disk holds %v, %v", entries, err)
		}
	})
}

// files are what a file, or a folder with all below it, holds.
func files(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(path, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		rel, relErr := filepath.Rel(filepath.Dir(path), name)
		if err == nil {
			err = relErr
		}
		all[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
