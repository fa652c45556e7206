package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/cmd"
)

// TestDocsDoNotDrift compares docs/ with what `go run ./docs/gen` would write.
func TestDocsDoNotDrift(t *testing.T) {
	t.Parallel()
	pages := cmd.Reference()
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		if err != nil {
			t.Errorf("docs/%s: %v; run go run ./docs/gen", name, err)
			continue
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("docs/%s is not what go run ./docs/gen writes (-want +got):\n%s", name, diff)
		}
	}
	there, err := filepath.Glob("../commands/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range there {
		if _, ok := pages["commands/"+filepath.Base(file)]; !ok {
			t.Errorf("docs/commands/%s belongs to no command; run go run ./docs/gen", filepath.Base(file))
		}
	}
}

func TestWriteRemovesPagesOfCommandsThatAreGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "commands"), 0o755); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "commands", "imprint-gone.md")
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("the page of a command that is gone: %v, want it removed", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "commands", "imprint-sign.md")); err != nil {
		t.Error(err)
	}
}
