// gen writes the generated pages of docs/: one for each command, and the reason codes.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/imprint-oci/imprint/cmd"
)

func main() {
	if err := write("docs"); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// write writes every page below dir, and removes pages of commands that are gone.
func write(dir string) error {
	pages := cmd.Reference()
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
