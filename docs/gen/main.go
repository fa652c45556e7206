// gen writes the generated pages of docs/: one for each command, the reason codes, and what was asked for with its tests.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/imprint-oci/imprint/cmd"
)

func main() {
	all, err := pages(".")
	if err == nil {
		err = write("docs", all)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// pages makes every page by its name below docs/. The module lies in root.
func pages(root string) (map[string]string, error) {
	all := cmd.Reference()
	tests, err := testsIn(root)
	if err != nil {
		return nil, err
	}
	all["scenarios.md"], err = index(scenarios, tests)
	return all, err
}

// write writes every page below dir, and removes pages of commands that are gone.
func write(dir string, pages map[string]string) error {
	old, err := filepath.Glob(filepath.Join(dir, "commands", "*.md"))
	if err != nil {
		return err
	}
	for _, file := range old {
		if _, ok := pages["commands/"+filepath.Base(file)]; !ok {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	for name, text := range pages {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
