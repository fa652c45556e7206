package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A pair is what is copied, and where to.
type pair struct{ source, destination string }

// A tool is one that copies, as it is called for a copy that changes nothing and brings the referrers along if it can.
type tool struct {
	name    string // with a setting that is not its default
	binary  string
	carries bool // referrers go along
	hashes  bool // what it moves is checked on the way
	tuned   bool // not as it comes
	loop    bool // takes one artifact a process, and stands for all that do when there are many
	asks    []string
	// commands returns what to run, one after another. It may write files below home; hosts are both registries'.
	commands func(home string, hosts []string, pairs []pair) ([][]string, error)
	// batches: commands takes many pairs in one process.
	batches bool

	path, version string
}

func each(args func(p pair) []string) func(string, []string, []pair) ([][]string, error) {
	return func(_ string, _ []string, pairs []pair) ([][]string, error) {
		var out [][]string
		for _, p := range pairs {
			out = append(out, args(p))
		}
		return out, nil
	}
}

var allTools = []tool{
	{
		name: "imprint", binary: "imprint", carries: true, hashes: true, batches: true, asks: []string{"version"},
		commands: func(home string, _ []string, pairs []pair) ([][]string, error) {
			if len(pairs) == 1 {
				return [][]string{{"copy", pairs[0].source, pairs[0].destination}}, nil
			}
			var list strings.Builder
			for _, p := range pairs {
				fmt.Fprintln(&list, p.source, p.destination)
			}
			file := filepath.Join(home, "list")
			return [][]string{{"copy", "--batch", file}}, os.WriteFile(file, []byte(list.String()), 0o600)
		},
	},
	{
		name: "oras", binary: "oras", carries: true, loop: true, asks: []string{"version"},
		commands: each(func(p pair) []string {
			return []string{"cp", "-r", "--from-plain-http", "--to-plain-http", "--no-tty", p.source, p.destination}
		}),
	},
	{
		name: "oras-10", binary: "oras", carries: true, tuned: true, asks: []string{"version"},
		commands: each(func(p pair) []string {
			return []string{"cp", "-r", "--concurrency", "10", "--from-plain-http", "--to-plain-http", "--no-tty", p.source, p.destination}
		}),
	},
	{name: "regctl", binary: "regctl", carries: true, hashes: true, asks: []string{"version"}, commands: regctl(0)},
	{name: "regctl-20", binary: "regctl", carries: true, hashes: true, tuned: true, asks: []string{"version"}, commands: regctl(20)},
	{name: "regsync", binary: "regsync", carries: true, hashes: true, tuned: true, batches: true, asks: []string{"version"}, commands: regsync},
	{
		name: "skopeo", binary: "skopeo", hashes: true, asks: []string{"--version"},
		commands: each(func(p pair) []string {
			return []string{"copy", "--all", "--preserve-digests", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false",
				"docker://" + p.source, "docker://" + p.destination}
		}),
	},
	{
		name: "crane", binary: "crane", hashes: true, asks: []string{"version"},
		commands: each(func(p pair) []string { return []string{"copy", "--insecure", p.source, p.destination} }),
	},
	{
		name: "cosign", binary: "cosign", hashes: true, asks: []string{"version"},
		commands: each(func(p pair) []string {
			return []string{"copy", "--allow-insecure-registry", "--allow-http-registry", p.source, p.destination}
		}),
	},
}

// regctl reads its settings of a host from a file; 0 requests at once are its default.
func regctl(requests int) func(string, []string, []pair) ([][]string, error) {
	return func(home string, hosts []string, pairs []pair) ([][]string, error) {
		settings := map[string]map[string]any{"hosts": {}}
		for _, h := range hosts {
			set := map[string]any{"tls": "disabled", "hostname": h}
			if requests > 0 {
				set["reqConcurrent"] = requests
			}
			settings["hosts"][h] = set
		}
		text, err := json.Marshal(settings)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(home, "regctl.json"), text, 0o600); err != nil {
			return nil, err
		}
		var out [][]string
		for _, p := range pairs {
			out = append(out, []string{"image", "copy", "--referrers", "--digest-tags", p.source, p.destination})
		}
		return out, nil
	}
}

// regsync at its best: ten artifacts and twenty requests to a host at once.
func regsync(home string, hosts []string, pairs []pair) ([][]string, error) {
	var b strings.Builder
	b.WriteString("version: 1\ncreds:\n")
	for _, h := range hosts {
		fmt.Fprintf(&b, "  - {registry: %q, tls: disabled, reqConcurrent: 20}\n", h)
	}
	b.WriteString("defaults: {parallel: 10, referrers: true}\nsync:\n")
	for _, p := range pairs {
		fmt.Fprintf(&b, "  - {source: %q, target: %q, type: image}\n", p.source, p.destination)
	}
	file := filepath.Join(home, "regsync.yaml")
	return [][]string{{"once", "--config", file}}, os.WriteFile(file, []byte(b.String()), 0o600)
}

func toolNames() []string {
	var names []string
	for _, t := range allTools {
		names = append(names, t.name)
	}
	return names
}

// environment is all that a tool sees of this machine: it finds its settings below home, and nobody's credentials.
func environment(home string) []string {
	return []string{
		"HOME=" + home, "DOCKER_CONFIG=" + home, "XDG_CONFIG_HOME=" + home, "XDG_RUNTIME_DIR=" + home, "REGCTL_CONFIG=" + filepath.Join(home, "regctl.json"),
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "NO_COLOR=1",
	}
}

// present finds the tools that were asked for, and asks for their versions.
func present(ctx context.Context, o options, home string) (tools []tool, missing []string) {
	wanted := func(name string) bool {
		if len(o.tools) == 0 {
			return true
		}
		for _, n := range o.tools {
			if n == name {
				return true
			}
		}
		return false
	}
	for _, t := range allTools {
		if !wanted(t.name) {
			continue
		}
		t.path = o.imprint
		if t.binary != "imprint" {
			path, err := exec.LookPath(t.binary)
			if err != nil {
				missing = append(missing, t.name)
				continue
			}
			t.path = path
		}
		c := exec.CommandContext(ctx, t.path, t.asks...)
		c.Env = environment(home)
		out, err := c.Output()
		if t.version = versionIn(string(out)); err != nil {
			t.version = "unknown"
		}
		tools = append(tools, t)
	}
	return tools, missing
}

// versionIn finds the first word that begins with a number, or v and a number.
func versionIn(text string) string {
	for word := range strings.FieldsSeq(text) {
		if number := strings.TrimPrefix(word, "v"); number != "" && number[0] >= '0' && number[0] <= '9' {
			return number
		}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return first
}
