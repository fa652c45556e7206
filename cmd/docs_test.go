package cmd

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/imprint-oci/imprint/kms"
)

var (
	shown    = regexp.MustCompile(`^(?:\s*(?:[$>] |- run: )?)(imprint [a-z].*)$`)
	shellish = regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s"']+`)
)

// TestCommandsInPagesExist: what hand-written pages tell people to type has commands, flags and key URIs that there are.
func TestCommandsInPagesExist(t *testing.T) {
	t.Parallel()
	pages := map[string]string{}
	for _, file := range []string{"../docs/keys.md", "../docs/policy.md", "../docs/start.md", "../README.md"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[file] = string(b)
	}
	for _, name := range topicNames() {
		pages["help "+name] = topic(name)
	}
	root := newRoot(newSession(newWorld(t).env))
	seen := 0
	for name, page := range pages {
		code := false
		for _, line := range strings.Split(strings.ReplaceAll(page, "\\\n", " "), "\n") {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			m := shown.FindStringSubmatch(line)
			if m == nil || !code && !strings.HasPrefix(line, "  ") { // prose
				continue
			}
			text, _, _ := strings.Cut(m[1], " #")
			text, _, _ = strings.Cut(text, " | ")
			words := shellish.FindAllString(text, -1)[1:]
			c, rest, err := root.Find(words)
			if err != nil || c == root {
				t.Errorf("%s: there is no such command: %s", name, text)
				continue
			}
			seen++
			flags := map[string]*pflag.Flag{}
			for _, f := range flagsOf(c) {
				flags[f.Name] = f
			}
			for i, w := range rest {
				long, _, _ := strings.Cut(strings.Trim(w, "[](),.;:"), "=")
				flag, isFlag := strings.CutPrefix(long, "--")
				if isFlag && flags[flag] == nil {
					t.Errorf("%s: imprint %s has no --%s: %s", name, c.Name(), flag, text)
				}
				if flag != "key" || !isFlag || i+1 == len(rest) {
					continue
				}
				key := strings.Trim(rest[i+1], `"'`)
				if _, err := kms.ParseURI(key); err != nil && !isKeyName(strings.TrimRight(key, ",;")) && !strings.Contains(key, "$") && !strings.Contains(key, "…") {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d commands are there to try", seen)
	}
}
