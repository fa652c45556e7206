package cmd

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what this build calls itself; the linker may set it (-X …/cmd.version=1.2.3).
var version = "0.1.0-dev"

// agent names imprint to registries and in signatures.
func agent() string { return "imprint/" + version }

// A build is what `imprint version` says.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "the version of this program",
		Example: "  imprint version -o json",
		Args:    arguments(0, 0, ""),
		RunE: s.run(func(context.Context, []string) error {
			b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, set := range info.Settings {
					switch set.Key {
					case "vcs.revision":
						b.Revision = set.Value
					case "vcs.modified":
						b.Modified = set.Value == "true"
					}
				}
			}
			return s.answer("version", b, func(w io.Writer) {
				fmt.Fprintf(w, "imprint %s %s %s", b.Version, b.Platform, b.Go)
				if b.Revision != "" {
					fmt.Fprintf(w, " %.12s", b.Revision)
				}
				fmt.Fprintln(w)
			})
		}),
	}
}
