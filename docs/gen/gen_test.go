package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/cmd"
)

// TestDocsDoNotDrift compares docs/ with what `go run ./docs/gen` would write.
func TestDocsDoNotDrift(t *testing.T) {
	t.Parallel()
	pages, err := pages("../..")
	if err != nil {
		t.Fatal(err)
	}
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
	if err := write(dir, cmd.Reference()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("the page of a command that is gone: %v, want it removed", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "commands", "imprint-sign.md")); err != nil {
		t.Error(err)
	}
}

func TestEveryScenarioHasItsTest(t *testing.T) {
	t.Parallel()
	asked := func(rows ...scenario) []part { return []part{{"asked", rows}} }
	tests := map[string]place{
		"e2e.TestS01R02Both": {"e2e/a_test.go", "TestS01R02Both"}, "trust.TestOther": {"trust/b_test.go", "TestOther"},
	}
	one, two := scenario{id: "S01", requirement: "first", shown: "so"}, scenario{id: "R02", requirement: "second", shown: "thus", also: []string{"trust.TestOther"}}
	page, err := index(asked(one, two, scenario{id: "S03", requirement: "third", untestable: "it cannot be seen"}), tests)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"| S01 | first | [TestS01R02Both](../e2e/a_test.go) | so |",
		"| R02 | second | [TestS01R02Both](../e2e/a_test.go)<br>[TestOther](../trust/b_test.go) | thus |",
		"| S03 | third | none | it cannot be seen |",
	} {
		if !strings.Contains(page, row) {
			t.Errorf("%s is not in\n%s", row, page)
		}
	}
	for name, rows := range map[string][]scenario{
		"has no test":           {one, two, {id: "S03"}},
		"there is no test":      {one, {id: "R02", also: []string{"trust.TestGone"}}},
		"is no scenario's":      {one},
		"said to be untestable": {one, {id: "R02", untestable: "who knows"}},
	} {
		if _, err := index(asked(rows...), tests); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want an error that says %q", err, name)
		}
	}
}

func TestTestsAreFound(t *testing.T) {
	t.Parallel()
	tests, err := testsIn(".")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tests["..TestTestsAreFound"], (place{"gen_test.go", "TestTestsAreFound"}); got != want {
		t.Errorf("this test is %+v, want %+v; of %d", got, want, len(tests))
	}
}
