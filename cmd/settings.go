package cmd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A source is where a flag's value came from.
type source struct {
	rank int    // fromDefault … fromCommandLine
	name string // "--key", "IMPRINT_KEY", "config.yaml:3"
}

const (
	fromDefault = iota
	fromFile
	fromEnvironment
	fromCommandLine
)

// pathFlags are the flags whose values are paths: in a configuration file relative ones start at that file.
var pathFlags = map[string]bool{
	"ca-file": true, "client-cert": true, "client-key": true,
	"policy": true, "root": true,
	"chain": true, "passphrase-file": true, "timestamp-roots": true,
	"batch": true, "out": true,
}

// neverAmbient reports whether a flag must stand on the command line: what grants, destroys or weakens is asked for there and
// then, not by the surroundings.
func neverAmbient(flag string) bool {
	switch flag {
	case "yes", "signature", "move", "again", "downgrade", "plain-http", "replace", "overwrite", "help", "config":
		return true
	}
	return strings.HasPrefix(flag, "allow-")
}

// onlyNamed marks flags of a command that count only when they stand on its command line: copy and rechain judge when they are
// told to, whatever policy the surroundings have.
const onlyNamed = "imprint-only-named"

// flagsOf returns the flags of a command with those of every command.
func flagsOf(c *cobra.Command) []*pflag.Flag {
	var out []*pflag.Flag
	seen := map[string]bool{}
	add := func(f *pflag.Flag) {
		if !seen[f.Name] {
			seen[f.Name] = true
			out = append(out, f)
		}
	}
	c.Flags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	return out
}

// allFlags returns the names of all flags of all commands.
func allFlags(root *cobra.Command) []string {
	seen := map[string]bool{}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, f := range flagsOf(c) {
			seen[f.Name] = true
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	return slices.Sorted(maps.Keys(seen))
}

// variable returns the environment variable of a flag.
func variable(flag string) string {
	return "IMPRINT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settle gives every flag of c that does not stand on the command line its value from the environment, else from the
// configuration. After an error the flags have what could be read all the same.
func (s *session) settle(c *cobra.Command) error {
	all := allFlags(c.Root())
	err := s.configure(all)
	for _, f := range flagsOf(c) {
		if f.Changed {
			s.sources[f.Name] = source{fromCommandLine, "--" + f.Name}
			if err == nil && holdsNothing(f) {
				err = usageHint("give it a value, or leave it out", "--%s is empty", f.Name)
			}
			continue
		}
		if wrong := s.ambient(f); err == nil {
			err = wrong
		}
	}
	if err == nil {
		s.strays(all)
	}
	return err
}

// configure reads the configuration file, if there is one. After an error there are no settings from it.
func (s *session) configure(all []string) error {
	s.settings = &configuration{}
	file, err := s.configFile()
	if err != nil || file == "" {
		return err
	}
	settings, err := s.loadConfig(file, slices.DeleteFunc(slices.Clone(all), neverAmbient))
	if err != nil {
		return err
	}
	s.settings = settings
	return nil
}

// ambient gives one flag its value from the environment or the configuration.
func (s *session) ambient(f *pflag.Flag) error {
	if neverAmbient(f.Name) || f.Annotations[onlyNamed] != nil {
		return nil
	}
	if v := s.env.Getenv(variable(f.Name)); v != "" {
		values := []string{v}
		if _, list := f.Value.(pflag.SliceValue); list {
			values = strings.Split(strings.TrimRight(v, "\n"), "\n") // one a line: names hold commas
		}
		return s.assign(f, values, source{fromEnvironment, variable(f.Name)})
	}
	if v, ok := s.settings.values[f.Name]; ok {
		return s.assign(f, v.values, source{fromFile, fmt.Sprintf("%s:%d: %s", s.settings.file, v.line, f.Name)})
	}
	return nil
}

func (s *session) assign(f *pflag.Flag, values []string, from source) error {
	var err error
	if list, ok := f.Value.(pflag.SliceValue); ok {
		err = list.Replace(values)
	} else if len(values) != 1 {
		err = errors.New("one value is expected")
	} else {
		err = f.Value.Set(values[0])
	}
	if err != nil {
		return usage("%s: %w", from.name, plainValueError(f, err))
	}
	s.sources[f.Name] = from
	return nil
}

// holdsNothing reports whether a flag was given an empty value. In scripts that is a variable that is not set:
// --policy "$POLICY" asks for a judgement, which must not be left out for it.
func holdsNothing(f *pflag.Flag) bool {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values := list.GetSlice()
		return len(values) == 0 || slices.Contains(values, "") // that is no value of any flag
	}
	return f.Value.String() == ""
}

// rank says how near to the command line a flag's value was given.
func (s *session) rank(flag string) int { return s.sources[flag].rank }

// strays warns of variables that look like settings and are none.
func (s *session) strays(all []string) {
	settings := map[string]string{"IMPRINT_CONFIG": "", "IMPRINT_PASSPHRASE": "", "IMPRINT_CACHE": "", "IMPRINT_STATE": ""}
	for _, f := range all {
		if v := variable(f); f != "config" {
			settings[v] = f
		}
	}
	for _, e := range s.env.Environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "IMPRINT_") || value == "" {
			continue
		}
		flag, known := settings[name]
		switch {
		case known && flag != "" && neverAmbient(flag):
			s.warn("environment", fmt.Sprintf("%s is ignored: --%s counts on the command line only", name, flag))
		case !known:
			if near := nearest(name, slices.Sorted(maps.Keys(settings))); near != "" {
				s.warn("environment", fmt.Sprintf("%s is no setting of imprint; did you mean %s?", name, near))
			}
		}
	}
}

// nearest returns the name that a person who typed word most likely meant, "" if none is near.
func nearest(word string, names []string) string {
	best, least := "", len(word)/3+2
	for _, n := range names {
		if d := distance(word, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours between a and b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range y {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
